"""`SegTaskHandle`: a `TaskHandle` that any thread may use, on any loop or on none."""

import asyncio
import contextlib
import contextvars
import dataclasses
import threading
from collections.abc import Callable
from typing import Protocol

from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.system.safe_log import SafeLog
from aiocmdpool.tasks.handle import Cancellation, TaskHandle, TaskOwner
from aiocmdpool.tasks.status import TaskStatus

_log = SafeLog("aiocmdpool")

# Held by those who wait, cancel or settle where no loop keeps order: never by those who push. One for all handles: a
# handle of its own would make each of a million tasks larger. Reentrant, because the garbage collector may come by in
# the middle, close a loop and so settle what was waited for.
SLOW_PATHS = threading.RLock()


class SegOwner(TaskOwner, Protocol):
    """What a handle asks of the pool that made it."""

    def call_on_loop(self, callback: Callable[[], object], /) -> bool:
        """Have something called by the loop of the pool. `False` if there is no loop, or no more."""
        ...


class SegTaskHandle(TaskHandle):
    """A task of a `CommandPoolSeg`.

    Await it from any loop, or ask for its `result` from a thread without one, which blocks. Making it is cheap: nothing
    is made to wait with until somebody waits.
    """

    __slots__ = ("_listeners",)
    _owner: SegOwner

    def __init__(self, command: CommandConfig, owner: SegOwner) -> None:
        super().__init__(command, owner)
        self._listeners: list[Callable[[], object]] | None = None

    def result(self, timeout: float | None = None) -> CommandResult:
        """Wait for the result.

        Args:
            timeout: Seconds to wait; the task is left alone when they are over. `None`: as long as it takes. A task of
                a pool that nobody starts takes until that is stopped.

        Raises:
            ExecuteError: What went wrong; `TaskCancelled` if the task was cancelled, or its pool stopped.
            TimeoutError: It is not settled yet. A `CommandTimeout`, which is one as well, is an outcome.
            asyncio.InvalidStateError: It is not settled yet, and this thread runs an event loop, which must not block.
        """
        self._wait(timeout)
        try:
            return super().result()
        finally:
            del self  # see `TaskHandle.result`

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the error, or `None` if there is a result; otherwise as `result`."""
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
        removed = 0
        while self._forget(_Callback(self, callback, contextvars.Context())):
            removed += 1
        return removed

    def settle(
        self,
        status: TaskStatus,
        result: CommandResult | None = None,
        error: BaseException | Cancellation | None = None,
    ) -> None:
        """Give the task its outcome. The pool does this exactly once."""
        super().settle(status, result, error)
        # Nobody registers unseen: `_listen` puts its word there first, and looks whether the task is settled after it.
        if self._listeners is not None:
            with SLOW_PATHS:
                listeners, self._listeners = self._listeners, None
            for tell in listeners or ():
                tell()

    # -- waiting ----------------------------------------------------------------------------------------------------

    def _wait(self, seconds: float | None) -> None:
        validate.seconds("timeout", seconds)
        if self.done() or running_loop() is not None:
            return
        gate = threading.Event()
        self._listen(gate.set)
        try:
            if not gate.wait(seconds):
                raise TimeoutError(f"{self!r} is not settled after {seconds:g} s; it goes on")
        finally:
            self._forget(gate.set)

    def _waiter(self) -> "asyncio.Future[None]":
        waiter = asyncio.get_running_loop().create_future()
        self._listen(_Resolve(waiter))
        return waiter

    def _drop(self, waiter: "asyncio.Future[None]") -> None:
        self._forget(_Resolve(waiter))

    def _listen(self, tell: Callable[[], object]) -> None:
        """Have something called once the task is settled; now, if it is."""
        with SLOW_PATHS:
            self._listeners = self._listeners or []
            self._listeners.append(tell)
        if self.done() and self._forget(tell):
            tell()

    def _forget(self, tell: Callable[[], object]) -> bool:
        """Take that back; whether it was still there."""
        with SLOW_PATHS:
            if self._listeners is None or tell not in self._listeners:
                return False
            self._listeners.remove(tell)
            return True


@dataclasses.dataclass(frozen=True, slots=True)
class _Resolve:
    """Tells a coroutine that waits on some loop."""

    waiter: "asyncio.Future[None]"

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


@dataclasses.dataclass(frozen=True, slots=True)
class _Callback:
    """Equal to another one for the same function, so that it can be found again."""

    handle: SegTaskHandle
    function: Callable[[TaskHandle], object]
    context: contextvars.Context = dataclasses.field(compare=False)

    def __call__(self) -> None:
        if not self.handle._owner.call_on_loop(self._call):
            try:
                self._call()
            except Exception:  # which a loop would tell its exception handler
                _log.exception("error in a callback of %r", self.handle)

    def _call(self) -> None:
        self.context.copy().run(self.function, self.handle)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs in this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
