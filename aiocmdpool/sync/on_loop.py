"""The pools that those of the facade stand for: started when somebody needs them, with handles for threads."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import PoolClosed
from aiocmdpool.pool import command_pool, seg_pool
from aiocmdpool.pool.lifecycle import PoolLife
from aiocmdpool.system.safe_log import SafeLog
from aiocmdpool.tasks.handle import TaskHandle
from aiocmdpool.tasks.listeners import Listeners

_log = SafeLog("aiocmdpool")

# Seconds that a pushed task waits for `start_executor`, or for somebody who wants its result; then the pool starts.
START_SOON = 1.0


class _StartsByItself:
    """What both pools of the facade have: they start when somebody needs them, and before they are drained."""

    start_is_due = False
    """Whether it has been seen to that it starts."""
    _life: PoolLife
    _starting: asyncio.TimerHandle | asyncio.Task[None] | None = None

    if TYPE_CHECKING:  # what the pools have

        async def start_executor(self, workers: int | None = None) -> None:
            """Start."""

        def __len__(self) -> int:
            """Return how many tasks wait."""
            ...

    def is_started(self) -> bool:
        """Whether it runs what is in its queue, or has stopped."""
        return self._life.started or self._life.stopped

    def start_soon(self) -> None:
        """Start by and by, if nobody does: what is pushed is run, also if nobody ever waits for it."""
        self.start_is_due = True
        if self._starting is None and not self.is_started():
            self._starting = asyncio.get_running_loop().call_later(START_SOON, self._start_by_itself)

    def _start_by_itself(self) -> None:
        self._starting = asyncio.ensure_future(self._start_for_nobody())

    async def _start_for_nobody(self) -> None:
        try:
            with suppress(PoolClosed):  # meanwhile
                await self.start_executor()
        except Exception:
            self.start_is_due = False
            _log.exception("%r could not be started; the next push tries again", self)
        finally:
            self._starting = None

    async def _before_stop(self, drain: bool) -> None:
        """Start it, if there is anything to drain; a start that was due is no more."""
        if self._starting is not None and not isinstance(self._starting, asyncio.Task):  # a start sees it by itself
            self._starting.cancel()
        if drain and len(self) and not self.is_started():
            await self._start_for_nobody()


class CommandPool(_StartsByItself, command_pool.CommandPool):
    """That of `sync.CommandPool`, on the loop in the background."""

    listeners: Listeners | None = None

    def make_handles(self, make: Callable[[CommandConfig, int], TaskHandle]) -> None:
        """Have handles made by a function of the command and the priority."""
        self.listeners = Listeners()
        self._tasks.make_handle = make

    def cancel_task(self, handle: TaskHandle) -> None:
        """Cancel a task, from the loop."""
        self._tasks.cancel_task(handle)

    async def stop(self, *, drain: bool = True, timeout: float | None = None) -> None:  # noqa: ASYNC109  # as that of the base
        """Stop it; see there."""
        await self._before_stop(drain)
        await super().stop(drain=drain, timeout=timeout)


class CommandPoolSeg(_StartsByItself, seg_pool.CommandPoolSeg):
    """That of `sync.CommandPoolSeg`.

    Attributes:
        before_wait: Called in a thread that is about to wait for a task.
        while_waiting: Called by it now and then.
    """

    before_wait: Callable[[], object]
    while_waiting: Callable[[], object]

    async def stop(self, *, drain: bool = True, timeout: float | None = None) -> None:  # noqa: ASYNC109  # as that of the base
        """Stop it; see there."""
        await self._before_stop(drain)
        await super().stop(drain=drain, timeout=timeout)

    def begin_wait(self, handle: TaskHandle) -> None:
        """Start it, unless somebody has; see there."""
        super().begin_wait(handle)
        self.before_wait()

    def look(self) -> None:
        """Leave, or stay for good, where the interpreter exits."""
        self.while_waiting()
