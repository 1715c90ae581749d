"""The pools that those of the facade stand for: started when somebody needs them, with handles for threads."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import PoolClosed
from aiocmdpool.pool import command_pool, seg_pool
from aiocmdpool.system.safe_log import SafeLog
from aiocmdpool.tasks.handle import TaskHandle
from aiocmdpool.tasks.listeners import Listeners

_log = SafeLog("aiocmdpool")

# Seconds that a pushed task waits for `start_executor`, or for somebody who wants its result; then the pool starts.
START_SOON = 1.0


class CommandPool(command_pool.CommandPool):
    """That of `sync.CommandPool`, on the loop in the background."""

    listeners: Listeners | None = None
    _starting: asyncio.TimerHandle | asyncio.Task[None] | None = None

    def is_started(self) -> bool:
        """Whether it runs what is in its queue, or has stopped."""
        return self._life.started or self._life.stopped

    def make_handles(self, make: Callable[[CommandConfig, int], TaskHandle]) -> None:
        """Have handles made by a function of the command and the priority."""
        self.listeners = Listeners()
        self._tasks.make_handle = make

    def cancel_task(self, handle: TaskHandle) -> None:
        """Cancel a task, from the loop."""
        self._tasks.cancel_task(handle)

    def start_soon(self) -> None:
        """Start by and by, if nobody does: what is pushed is run, also if nobody ever waits for it."""
        if self._starting is None and not self.is_started():
            self._starting = asyncio.get_running_loop().call_later(START_SOON, self._start_by_itself)

    def _start_by_itself(self) -> None:
        self._starting = asyncio.ensure_future(self._start_for_nobody())

    async def _start_for_nobody(self) -> None:
        try:
            with suppress(PoolClosed):  # meanwhile
                await self.start_executor()
        except Exception:
            _log.exception("%r could not be started; the next push tries again", self)
        finally:
            self._starting = None

    async def stop(self, *, drain: bool = True, timeout: float | None = None) -> None:  # noqa: ASYNC109  # as that of the base
        """Stop it; see there."""
        if self._starting is not None and not isinstance(self._starting, asyncio.Task):  # a start sees it by itself
            self._starting.cancel()
        await super().stop(drain=drain, timeout=timeout)


class CommandPoolSeg(seg_pool.CommandPoolSeg):
    """That of `sync.CommandPoolSeg`.

    Attributes:
        before_wait: Called in a thread that is about to wait for a task.
        while_waiting: Called by it now and then.
    """

    before_wait: Callable[[], object]
    while_waiting: Callable[[], object]

    def is_started(self) -> bool:
        """Whether it runs what is in its queue, or has stopped."""
        return self._life.started or self._life.stopped

    def begin_wait(self, handle: TaskHandle) -> None:
        """Start it, unless somebody has; see there."""
        super().begin_wait(handle)
        self.before_wait()

    def look(self) -> None:
        """Leave, or stay for good, where the interpreter exits."""
        self.while_waiting()
