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
    """The interface of a pool that its thread handles use. No method may wait for a lock that the loop takes."""

    @property
    def listeners(self) -> Listeners:
        """Return the callbacks of those who wait for tasks of the pool."""

    def call_on_loop(self, callback: Callable[[], object], /) -> bool:
        """Schedule `callback` on the loop of the pool; return `False` if there is no loop, or it is closed."""
        ...

    def tell(self, listener: Listener, /) -> None:
        """Call `listener`, which waits in a thread for a task that has just been settled."""

    def check_served(self) -> None:
        """Raise an error if nobody in this process will settle the tasks, because they are its parent's, say."""

    def begin_wait(self, handle: TaskHandle, /) -> None:
        """Make sure that the task will be settled, before a thread waits for it; an error here ends the task."""

    def look(self, handle: TaskHandle, /) -> None:
        """Check on the pool, now and then while a thread waits and once after; an error raised here ends the task."""

    def awaited(self, waiter: "asyncio.Future[None]", /) -> None:
        """Have `waiter`, on which a coroutine waits, raise an error if nobody can settle its task any more."""

    def cancel_soon(self, handle: TaskHandle, /) -> None:
        """Request the cancellation of the task of `handle` from any thread; raises nothing."""

    def is_served(self) -> bool:
        """Return whether there is a loop running that settles tasks."""
        ...


class ThreadTaskHandle(TaskHandle):
    """Handle of a task of a `CommandPoolSeg`, or of a pool of `aiocmdpool.sync`; any thread may use it.

    Await it from any loop, or call `result` in a thread without one, which blocks. Creating it is cheap: locks and
    futures are only created when somebody waits.

    Concurrency: any thread may use it, several at once.
    """

    __slots__ = ("_traceback",)
    _owner: ThreadOwner
    _traceback: TracebackType | None

    def result(self, timeout: float | None = None) -> CommandResult:
        """Wait up to `timeout` seconds for the result and return it, or raise the error of the task.

        Args:
            timeout: Seconds to wait, 0 to take only what is there by now; the task goes on when they are over. `None`:
                no limit. A task of a `CommandPoolSeg` that nobody starts is settled only when the pool is stopped.

        Interruption: an exception that a signal handler raises here (KeyboardInterrupt, SystemExit, …), or that another
            thread sends, is raised when the command is dead and reaped.

        Raises:
            ExecuteError: What went wrong; `TaskCancelled` if the task was cancelled, or its pool stopped.
            TimeoutError: It is not settled yet. A `CommandTimeout`, which is one as well, is an outcome.
            asyncio.InvalidStateError: It is not settled yet, and this thread runs an event loop, which must not block.
        """
        error = self.exception(timeout)
        if error is not None:
            try:
                raise error.with_traceback(self._traceback)  # without frames of earlier raises
            finally:
                del error, self  # see `TaskHandle.result`
        assert self._result is not None
        return self._result

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait up to `timeout` seconds and return the error, or `None` if there is a result; see `result`."""
        validate.seconds("timeout", timeout)
        if not self.done():
            self._wait(timeout)
        return super().exception()

    def add_done_callback(
        self, callback: Callable[[TaskHandle], object], *, context: contextvars.Context | None = None
    ) -> None:
        """Call `callback(handle)` from the loop of the pool once the task is settled, or soon if it already is.

        Without a loop, before the start or after its end, the thread that settles the task makes the call.
        """
        self._listen(_Callback(self, callback, context or contextvars.copy_context()))

    def remove_done_callback(self, callback: Callable[[TaskHandle], object]) -> int:
        """Remove all registrations of `callback`, and return how many there were."""
        mine = [each for each in self._listeners or () if isinstance(each, _Callback) and each.function == callback]
        return sum(self._forget(each) for each in mine)

    def settle(
        self,
        status: TaskStatus,
        result: CommandResult | None = None,
        error: BaseException | Cancellation | None = None,
    ) -> None:
        """Set the outcome of the task and call its listeners. The pool calls this exactly once."""
        self._traceback = error.__traceback__ if isinstance(error, BaseException) else None
        super().settle(status, result, error)
        for listener in self._owner.listeners.take(self):
            if isinstance(listener, _OnLoop):
                listener()
            else:
                self._owner.tell(listener)

    # -- waiting ----------------------------------------------------------------------------------------------------

    def _wait(self, seconds: float | None) -> None:
        """Block this thread until the task is settled, or for `seconds`; `None` for no limit."""
        if running_loop() is not None:
            raise asyncio.InvalidStateError(f"{self!r} is not settled yet; await it first")
        owner, gate = self._owner, Gate()

        def look() -> None:
            if self.done():  # even if the notification was lost
                gate.open()
            owner.look(self)

        def wait() -> None:
            owner.begin_wait(self)
            self._listen(gate.open)
            gate.wait(seconds, look)

        def end() -> None:
            owner.cancel_soon(self)
            self._listen(gate.open)  # again, because the interruption may have come before the first time
            while owner.is_served() and not gate.wait(LOOK_AGAIN):
                pass

        try:
            wait_or_end(wait, end)
        finally:
            while self._forget(gate.open):
                pass
        owner.look(self)
        if not self.done():
            raise TimeoutError(f"{self!r}: not settled within {seconds:g} s; the task goes on ({self.status.value})")

    def _waiter(self) -> "asyncio.Future[None]":
        self._owner.check_served()
        waiter = asyncio.get_running_loop().create_future()
        self._listen(_Resolve(waiter))
        self._owner.awaited(waiter)
        return waiter

    def _drop(self, waiter: "asyncio.Future[None]") -> None:
        for each in tuple(self._listeners or ()):
            if isinstance(each, _Resolve) and each.waiter is waiter:
                self._forget(each)

    @property
    def _listeners(self) -> list[Listener] | None:
        return self._owner.listeners.of(self)

    def _listen(self, listener: Listener) -> None:
        """Call `listener` once the task is settled; call it now if it already is."""
        self._owner.listeners.add(self, listener)

    def _forget(self, listener: Listener) -> bool:
        """Remove `listener`; return whether it had not been called yet."""
        return self._owner.listeners.remove(self, listener)


class _OnLoop(abc.ABC):
    """Base class of listeners that notify a loop rather than a thread. Compared by identity: see `Listeners`."""

    __slots__ = ()

    @abc.abstractmethod
    def __call__(self) -> None: ...


class _Resolve(_OnLoop):
    """A listener that wakes a coroutine on some loop by resolving its future `waiter`."""

    __slots__ = ("waiter",)

    def __init__(self, waiter: "asyncio.Future[None]") -> None:
        self.waiter = waiter

    def __call__(self) -> None:
        loop = self.waiter.get_loop()
        if loop is running_loop():
            self._resolve()
            return
        with contextlib.suppress(RuntimeError):  # that loop is closed, so nobody waits there any more
            loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        if not self.waiter.done():
            self.waiter.set_result(None)


class _Callback(_OnLoop):
    """A listener that calls a function with the handle, on the loop of the pool if there is one."""

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
            except BaseException:  # without a loop nobody would handle it, and further listeners have to be called
                _log.exception("error in a callback of %r", self.handle)

    def _call(self) -> None:
        self.context.copy().run(self.function, self.handle)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread; `None` if there is none."""
    return asyncio._get_running_loop()
