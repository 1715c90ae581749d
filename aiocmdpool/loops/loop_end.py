"""Notices that an event loop ends, so that threads which wait for its work do not wait for ever."""

import asyncio
import weakref
from collections.abc import Callable

from aiocmdpool.loops.waiting import wait_through

_NEVER = 1e9  # seconds


class LoopClosed:
    """Calls back when the loop is closed or collected; `cancel` prevents that.

    A closed loop drops its timers, so this sets a timer that would never fire, and notices when it is dropped.

    Args:
        loop: The loop to watch.
        on_closed: Called in the thread that closes or collects the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_closed: Callable[[], None]) -> None:
        dropped = _Dropped(on_closed)
        self._dropped = weakref.ref(dropped)  # only the timer may keep it, and only the loop may keep the timer
        self._timer = weakref.ref(loop.call_later(_NEVER, dropped))

    def cancel(self) -> None:
        """Cancel the callback. Harmless when repeated."""
        dropped, timer = self._dropped(), self._timer()
        if dropped is not None:
            dropped.on_end = None
        if timer is not None:
            timer.cancel()


class LoopEnd:
    """Calls back when the loop is ending, and when it is closed; `cancel` prevents that.

    A loop reports its end to nobody, but two events show it. An orderly end cancels all tasks first, as `asyncio.run`
    does before it waits for the threads of its executor: so there is a task that waits to be cancelled. And the loop is
    closed: see `LoopClosed`.

    Args:
        loop: The running loop to watch.
        on_end: Called once or twice: on the loop when its tasks are cancelled; in the thread that closes or collects
            it, when it is closed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        self._cancelled = False
        self._closed = LoopClosed(loop, on_end)
        self._task = loop.create_task(self._watch(loop.create_future()), name="aiocmdpool-loop-end")

    @property
    def has_come(self) -> bool:
        """Return whether all tasks of the loop are being or were cancelled; true before any of them has run again."""
        return not self._cancelled and (self._task.done() or self._task.cancelling() > 0)

    async def _watch(self, never: "asyncio.Future[None]") -> None:
        try:
            await never
        except asyncio.CancelledError:
            if not self._cancelled:
                self._on_end()
            raise

    async def cancel(self) -> asyncio.CancelledError | None:
        """Cancel the callbacks. Harmless when repeated; returns what `wait_through` returns."""
        self._cancelled = True
        self._task.cancel()
        self._closed.cancel()
        return await wait_through(self._task)


class _Dropped:
    """The callback of a timer, which calls `on_end` when it is garbage collected."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        self.on_end: Callable[[], None] | None = on_end

    def __call__(self) -> None:
        """Do nothing: the timer never fires."""

    def __del__(self) -> None:
        if self.on_end is not None:
            self.on_end()
