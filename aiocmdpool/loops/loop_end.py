"""Notices that an event loop ends, so that threads which wait for what it was to do are not left waiting."""

import asyncio
import weakref
from collections.abc import Callable

from aiocmdpool.loops.waiting import wait_through

_NEVER = 1e9  # seconds


class LoopClosed:
    """Calls back when the loop is closed, or thrown away; `cancel` stops that.

    A closed loop drops its timers: so there is a timer that would never fire, and sees that it is dropped.

    Args:
        loop: That of the caller.
        on_closed: Called from the thread that closes it, or that throws it away.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_closed: Callable[[], None]) -> None:
        dropped = _Dropped(on_closed)
        self._dropped = weakref.ref(dropped)  # only the timer may keep it, and only the loop the timer
        self._timer = weakref.ref(loop.call_later(_NEVER, dropped))

    def cancel(self) -> None:
        """Do not call back any more. Harmless when repeated."""
        dropped, timer = self._dropped(), self._timer()
        if dropped is not None:
            dropped.on_end = None
        if timer is not None:
            timer.cancel()


class LoopEnd:
    """Calls back when the loop is ending, and when it is closed; `cancel` stops that.

    A loop tells nobody of its end, but there are two things it does. Who ends it in order cancels all tasks first, as
    `asyncio.run` does before it waits for the threads of its executor: so there is a task that waits to be cancelled.
    And it is closed: see `LoopClosed`.

    Args:
        loop: That of the caller, running.
        on_end: Called once or twice: from the loop when its tasks are cancelled; from the thread that closes it, or
            that throws it away, when it is closed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        self._cancelled = False
        self._closed = LoopClosed(loop, on_end)
        self._task = loop.create_task(self._watch(loop.create_future()), name="aiocmdpool-loop-end")

    @property
    def has_come(self) -> bool:
        """Whether all tasks of the loop are being cancelled, or were; known before any of them has had a turn."""
        return not self._cancelled and (self._task.done() or self._task.cancelling() > 0)

    async def _watch(self, never: "asyncio.Future[None]") -> None:
        try:
            await never
        except asyncio.CancelledError:
            if not self._cancelled:
                self._on_end()
            raise

    async def cancel(self) -> asyncio.CancelledError | None:
        """Do not call back any more. Harmless when repeated; see `waiting.wait_through` for what it returns."""
        self._cancelled = True
        self._task.cancel()
        self._closed.cancel()
        return await wait_through(self._task)


class _Dropped:
    """The callback of a timer; calls when it is thrown away."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        self.on_end: Callable[[], None] | None = on_end

    def __call__(self) -> None:
        """The timer fires: never."""

    def __del__(self) -> None:
        if self.on_end is not None:
            self.on_end()
