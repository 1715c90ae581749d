"""`Call`: one blocking call: work for the loop, and a gate for the thread that waits.

    call ── call_soon_threadsafe ── task, or function, on the loop ── gate ── result or error, in the caller

anyio's `portal.call` does the same at several times the cost: a task in a task group, a cancel scope, a
`concurrent.futures` future and its condition.
"""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, NoReturn, TypeVar

from aiocmdpool.commands.errors import ExecuteError, PoolClosed, TaskCancelled
from aiocmdpool.commands.result import EndReason
from aiocmdpool.loops.gate import Gate
from aiocmdpool.loops.interruptions import wait_or_end
from aiocmdpool.sync.background import Background
from aiocmdpool.sync.process_wide import stay_if_exiting, stay_or_leave_at_exit

T = TypeVar("T")

SHUT_DOWN = "aiocmdpool.sync was shut down"


class Call(Generic[T]):
    """A coroutine to run on the background loop, and the wait for its outcome.

    Args:
        background: The background whose loop runs it.
        work: Function that makes the awaitable; called on the loop.
        undo: Function to call on the loop with the value of a call that was interrupted too late to cancel it.
        on_done: Called with the call, on the loop, once it is done.
    """

    __slots__ = (
        "_background",
        "_begun",
        "_error",
        "_on_done",
        "_task",
        "_traceback",
        "_undo",
        "_value",
        "_work",
        "gate",
    )

    def __init__(
        self,
        background: Background,
        work: Callable[[], Awaitable[T]],
        undo: Callable[[T], object] | None = None,
        on_done: Callable[["Call[T]"], object] | None = None,
    ) -> None:
        self.gate = Gate()
        self._background = background
        self._work: Callable[[], Any] = work
        self._undo = undo
        self._on_done = on_done
        self._task: asyncio.Task[None] | None = None
        self._begun = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._traceback: TracebackType | None = None

    # -- in the caller's thread -------------------------------------------------------------------------------------

    def submit(self) -> None:
        """Hand the call to the loop. Calls from one thread begin in their order."""
        self._background.calls.add(self)
        self._tell(self._start)

    def finish(self) -> T:
        """Submit the call and return its value or raise its error; an interruption comes after the end of the work."""
        try:
            wait_or_end(self._submit_and_wait, self.end)
            return self.outcome()
        finally:
            self = None  # type: ignore[assignment]  # break the cycle of an error, its frames and this call

    def _submit_and_wait(self) -> None:
        stay_or_leave_at_exit()
        self.submit()
        self.gate.wait(None, stay_or_leave_at_exit)

    def cancel(self) -> None:
        """Cancel the call, without waiting for its end. Harmless when repeated."""
        self._tell(self.cancel_now)

    def end(self) -> None:
        """Cancel the call, and wait until it is done. Harmless when repeated."""
        self.cancel()
        self.gate.wait()
        if self._undo is not None and self._value is not None:
            self._tell(self._undo, self._value)
        stay_if_exiting()

    def outcome(self) -> T:
        """Return the value of a call that is done, or raise its error."""
        stay_if_exiting()
        try:
            if self._error is not None:
                raise_again(self._error, self._traceback)
            return self._value  # type: ignore[return-value]  # T may include None
        finally:
            self = None  # type: ignore[assignment]  # see `finish`

    def _tell(self, function: Callable[..., object], *args: object) -> None:
        if self._background.inherited:
            self.abandon(None)
            return
        try:
            self._background.loop.call_soon_threadsafe(function, *args)
        except (RuntimeError, AttributeError):  # the loop is closed, or there never was one
            self.abandon(self._background.failure)

    # -- on the loop ------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self.gate.is_open:  # cancelled before it began
            return
        if self._background.ended:
            self.abandon(self._background.failure)
        else:
            self._begin()

    def _begin(self) -> None:
        self._task = self._background.loop.create_task(self._run())

    async def _run(self) -> None:
        self._begun = True
        try:
            value = await self._work()
        except asyncio.CancelledError:
            self._resolve(error=TaskCancelled(SHUT_DOWN, end_reason=EndReason.CLOSED))
        except BaseException as error:
            self._resolve(error=error)
            if not isinstance(error, Exception):
                raise  # KeyboardInterrupt and SystemExit end the loop in asyncio
        else:
            self._resolve(value)

    def cancel_now(self) -> asyncio.Task[None] | None:
        """Cancel the call, on the loop; return its task if that still has to end."""
        if self.gate.is_open:
            return None
        if self._task is not None:
            self._task.cancel()
            if self._begun:
                return self._task
        # A task that is cancelled before its first step never runs `_run`.
        self._resolve(error=TaskCancelled(SHUT_DOWN, end_reason=EndReason.CLOSED))
        return None

    def abandon(self, why: BaseException | None) -> None:
        """End the call with an error, because its loop has ended or belongs to the parent of this forked process.

        Args:
            why: The error that ended the loop; `None` if it was shut down in good order.
        """
        if self.gate.is_open:
            return
        if self._background.inherited:
            message = "this call of aiocmdpool.sync belongs to the parent of this forked process; make a new one here"
            self._resolve(error=ExecuteError(message))
        else:
            error = PoolClosed(SHUT_DOWN if why is None else f"the loop of aiocmdpool.sync was ended by {why!r}")
            error.__cause__ = why
            self._resolve(error=error)

    def _resolve(self, value: T | None = None, error: BaseException | None = None) -> None:
        self._value = value
        self._error = error
        self._traceback = error.__traceback__ if error is not None else None
        self._background.calls.discard(self)
        self.gate.open()
        if self._on_done is not None:
            self._on_done(self)


class PlainCall(Call[T]):
    """A plain function to call on the loop: done in the iteration in which it arrives, without a task."""

    __slots__ = ()

    def __init__(
        self, background: Background, work: Callable[[], T], undo: Callable[[T], object] | None = None
    ) -> None:
        super().__init__(background, work, undo)  # type: ignore[arg-type]  # called by `_begin`, without await

    def _begin(self) -> None:
        try:
            value = self._work()
        except Exception as error:
            self._resolve(error=error)
        else:
            self._resolve(value)


def raise_again(error: BaseException, traceback: TracebackType | None) -> NoReturn:
    """Raise `error` in the caller's thread with the frames of the loop, without those of earlier raises."""
    try:
        raise error.with_traceback(traceback)
    finally:
        del error, traceback  # break the cycle of this frame and the error
