"""`in_thread`: calls blocking functions in threads of this package's own limit."""

import asyncio
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import anyio.lowlevel
import anyio.to_thread

from aiocmdpool.loops.waiting import wait_through

THREADS = 40  # at once on each loop; the default number of anyio

Result = TypeVar("Result")

_limiter: anyio.lowlevel.RunVar[anyio.CapacityLimiter] = anyio.lowlevel.RunVar("aiocmdpool-threads")


async def in_thread(function: Callable[[], Result]) -> Result:
    """Call `function` in a thread, and return its value or raise its error.

    It uses a limiter of this package, because anyio's default one may be used up by callers that wait for this one.

    Cancellation: a function that has begun is waited for, because it may use resources that the caller is about to
        close. That holds at the end of `asyncio.run`, too, which cancels every task, including the one inside of
        anyio's own call.

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
    """A call in a thread. Its future `over` is no task, so nothing cancels it."""

    def __init__(self, function: Callable[[], Result], loop: asyncio.AbstractEventLoop) -> None:
        self._function = function
        self._loop = loop
        self._lock = threading.Lock()  # protects `begun`
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
        """End the call as cancelled or failed if the task that brings it to a thread ended before it began."""
        if self._begin():
            self.error = asyncio.CancelledError() if task.cancelled() else task.exception()
            self.over.set_result(None)

    def outcome(self) -> Result:
        """Return the value of the function, or raise its error, once: idle threads keep their last call."""
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
