"""`ThreadTaskHandle`: a `TaskHandle` that any thread may use, on any loop or on none."""

import abc
import asyncio
import contextlib
import contextvars
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from aiocmdpool.commands import validate
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.loops.gate import LOOK_AGAIN, Gate
from aiocmdpool.loops.interruptions import wait_or_end
from aiocmdpool.system.safe_log import SafeLog
from aiocmdpool.tasks.handle import Cancellation, TaskHandle, TaskOwner
from aiocmdpool.tasks.listeners import Listener, Listeners
from aiocmdpool.tasks.status import TaskStatus

_log = SafeLog("aiocmdpool")


class ThreadOwner(TaskOwner, Protocol):
    """What a handle asks of the pool that made it. Nothing here may wait for a lock that the loop takes."""

    @property
    def listeners(self) -> Listeners:
        """Those who wait for its tasks."""

    def call_on_loop(self, callback: Callable[[], object], /) -> bool:
        """Have something called by the loop of the pool. `False` if there is no loop, or no more."""
        ...

    def tell(self, listener: Listener, /) -> None:
        """Let a thread go whose task has just been settled."""

    def begin_wait(self, handle: TaskHandle, /) -> None:
        """See to it that the task will be settled, before a thread waits for that; what this raises ends the task."""

    def look(self) -> None:
        """Called now and then by a thread that waits, and when it has waited. What this raises ends its task."""

    def cancel_soon(self, handle: TaskHandle, /) -> None:
        """Have the task cancelled, from any thread; raises nothing."""

    def is_served(self) -> bool:
        """Whether there is anybody who settles tasks."""
        ...


class ThreadTaskHandle(TaskHandle):
    """A task of a `CommandPoolSeg`, or of a pool of `aiocmdpool.sync`.

    Await it from any loop, or ask for its `result` from a thread without one, which blocks. Making it is cheap: nothing
    is made to wait with until somebody waits.

    Concurrency: any thread may use it, several at once.
    """

    __slots__ = ("_traceback",)
    _owner: ThreadOwner
    _traceback: TracebackType | None

    def result(self, timeout: float | None = None) -> CommandResult:
        """Wait for the result.

        Args:
            timeout: Seconds to wait, 0 for what is there by now; the task is left alone when they are over. `None`: as
                long as it takes. A task of a `CommandPoolSeg` that nobody starts takes until that is stopped.

        Interruption: what a signal handler raises here (KeyboardInterrupt, SystemExit, …), or another thread sends,
        leaves when the command is dead and reaped.

        Raises:
            ExecuteError: What went wrong; `TaskCancelled` if the task was cancelled, or its pool stopped.
            TimeoutError: It is not settled yet. A `CommandTimeout`, which is one as well, is an outcome.
            asyncio.InvalidStateError: It is not settled yet, and this thread runs an event loop, which must not block.
        """
        error = self.exception(timeout)
        if error is not None:
            try:
                raise error.with_traceback(self._traceback)  # without the frames of those who raised it before
            finally:
                del error, self  # see `TaskHandle.result`
        assert self._result is not None
        return self._result

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the error, or `None` if there is a result; otherwise as `result`."""
        validate.seconds("timeout", timeout)
        if not self.done():
            self._wait(timeout)
        return super().exception()

    def add_done_callback(
        self, callback: Callable[[TaskHandle], object], *, context: contextvars.Context | None = None
    ) -> None:
        """Call `callback(handle)` from the loop of the pool once the task is settled; soon, if it already is.

        Where there is no loop, before the start or after its end, it is called by whoever settles the task.
        """
        self._listen(_Callback(self, callback, context or contextvars.copy_context()))

    def remove_done_callback(self, callback: Callable[[TaskHandle], object]) -> int:
        """Take a callback back; returns how often it was registered."""
        mine = [each for each in self._listeners or () if isinstance(each, _Callback) and each.function == callback]
        return sum(self._forget(each) for each in mine)

    def settle(
        self,
        status: TaskStatus,
        result: CommandResult | None = None,
        error: BaseException | Cancellation | None = None,
    ) -> None:
        """Give the task its outcome. The pool does this exactly once."""
        self._traceback = error.__traceback__ if isinstance(error, BaseException) else None
        super().settle(status, result, error)
        for listener in self._owner.listeners.take(self):
            if isinstance(listener, _OnLoop):
                listener()
            else:
                self._owner.tell(listener)

    # -- waiting ----------------------------------------------------------------------------------------------------

    def _wait(self, seconds: float | None) -> None:
        """Block this thread until it is settled."""
        if running_loop() is not None:
            raise asyncio.InvalidStateError(f"{self!r} is not settled yet; await it first")
        owner, gate = self._owner, Gate()

        def look() -> None:
            if self.done():  # whatever has become of the word about it
                gate.open()
            owner.look()

        def wait() -> None:
            owner.begin_wait(self)
            self._listen(gate.open)
            gate.wait(seconds, look)

        def end() -> None:
            owner.cancel_soon(self)
            self._listen(gate.open)  # once more: this may have been interrupted before the other one
            while owner.is_served() and not gate.wait(LOOK_AGAIN):
                pass

        try:
            wait_or_end(wait, end)
        finally:
            while self._forget(gate.open):
                pass
        owner.look()
        if not self.done():
            raise TimeoutError(f"{self!r}: not settled within {seconds:g} s; the task goes on ({self.status.value})")

    def _waiter(self) -> "asyncio.Future[None]":
        waiter = asyncio.get_running_loop().create_future()
        self._listen(_Resolve(waiter))
        return waiter

    def _drop(self, waiter: "asyncio.Future[None]") -> None:
        for each in tuple(self._listeners or ()):
            if isinstance(each, _Resolve) and each.waiter is waiter:
                self._forget(each)

    @property
    def _listeners(self) -> list[Listener] | None:
        return self._owner.listeners.of(self)

    def _listen(self, listener: Listener) -> None:
        """Have something called once the task is settled; now, if it is."""
        self._owner.listeners.add(self, listener)

    def _forget(self, listener: Listener) -> bool:
        """Take that back; whether it was still there."""
        return self._owner.listeners.remove(self, listener)


class _OnLoop(abc.ABC):
    """What tells somebody on a loop by itself, rather than a thread. Compared by its identity: see `Listeners`."""

    __slots__ = ()

    @abc.abstractmethod
    def __call__(self) -> None: ...


class _Resolve(_OnLoop):
    """Tells a coroutine that waits on some loop."""

    __slots__ = ("waiter",)

    def __init__(self, waiter: "asyncio.Future[None]") -> None:
        self.waiter = waiter

    def __call__(self) -> None:
        loop = self.waiter.get_loop()
        if loop is running_loop():
            self._resolve()
            return
        with contextlib.suppress(RuntimeError):  # that loop is closed: nobody waits on it any more
            loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        if not self.waiter.done():
            self.waiter.set_result(None)


class _Callback(_OnLoop):
    """Calls a function with the handle, on the loop of the pool if there is one."""

    __slots__ = ("context", "function", "handle")

    def __init__(
        self, handle: ThreadTaskHandle, function: Callable[[TaskHandle], object], context: contextvars.Context
    ) -> None:
        self.handle = handle
        self.function = function
        self.context = context

    def __call__(self) -> None:
        if not self.handle._owner.call_on_loop(self._call):
            try:
                self._call()
            except BaseException:  # there is no loop to raise it, and others are still to be told
                _log.exception("error in a callback of %r", self.handle)

    def _call(self) -> None:
        self.context.copy().run(self.function, self.handle)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs in this thread."""
    return asyncio._get_running_loop()
