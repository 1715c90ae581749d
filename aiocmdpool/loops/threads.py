"""Functions that block, in threads of our own."""

import asyncio
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import anyio.lowlevel
import anyio.to_thread

from aiocmdpool.loops.waiting import wait_through

THREADS = 40  # at once on each loop; as many as anyio has by itself

Result = TypeVar("Result")

_limiter: anyio.lowlevel.RunVar[anyio.CapacityLimiter] = anyio.lowlevel.RunVar("aiocmdpool-threads")


async def in_thread(function: Callable[[], Result]) -> Result:
    """Call a function in a thread and return what it returns, or raise what it raises.

    It waits for a limiter of this package: anyio's default one may be used up by callers that wait for us.

    Cancellation: waits for the end of a function that has begun, since it may use what the caller is about to close.
    That holds for the end of `asyncio.run`, too, which cancels every task, also the one inside anyio's own call.

    Raises:
        RuntimeError: No thread can be started.
    """
    loop = asyncio.get_running_loop()
    job = _Job(function, loop)
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(THREADS)
        _limiter.set(limiter)
    task = loop.create_task(anyio.to_thread.run_sync(job.run, limiter=limiter), name="aiocmdpool-thread")
    task.add_done_callback(job.withdraw)

    def withdraw() -> None:
        if not job.begun:
            task.cancel()

    cancelled = await wait_through(job.over, on_cancel=withdraw)
    if cancelled is not None:
        raise cancelled
    return job.outcome()


class _Job(Generic[Result]):
    """A call. Its future `over` is no task, so that nothing cancels it."""

    def __init__(self, function: Callable[[], Result], loop: asyncio.AbstractEventLoop) -> None:
        self._function = function
        self._loop = loop
        self._lock = threading.Lock()  # over `begun`
        self.begun = False
        self.over: asyncio.Future[None] = loop.create_future()
        self.result: Result
        self.error: BaseException | None = None

    def run(self) -> None:
        """Call the function, unless the call was withdrawn."""
        if not self._begin():
            return
        try:
            self.result = self._function()
        except BaseException as error:
            self.error = error
        self._loop.call_soon_threadsafe(self.over.set_result, None)

    def withdraw(self, task: "asyncio.Task[None]") -> None:
        """Note that the task which brought the call to a thread is done; if no thread has it, nothing more comes."""
        if self._begin():
            self.error = asyncio.CancelledError() if task.cancelled() else task.exception()
            self.over.set_result(None)

    def outcome(self) -> Result:
        """Return or raise what came of the function, once. It may be large, and an idle thread keeps its last call."""
        error, self.error = self.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame
        result = self.result
        del self.result
        return result

    def _begin(self) -> bool:
        with self._lock:
            begins, self.begun = not self.begun, True
            return begins
