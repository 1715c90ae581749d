"""The pools behind those of the facade: they start by themselves when needed, and make handles for threads."""

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
from aiocmdpool.tasks.listeners import Listener, Listeners
from aiocmdpool.tasks.thread_handle import ThreadOwner, ThreadTaskHandle, running_loop

if TYPE_CHECKING:
    import weakref

_log = SafeLog("aiocmdpool")

# Seconds that a pushed task waits for `start_executor`, or for a thread that wants its result; then the pool starts.
START_SOON = 1.0


class _StartsByItself:
    """Base class of both pools: they start when somebody needs them, and before they are drained."""

    start_is_due = False
    """Whether a start has been scheduled."""
    _life: PoolLife
    _starting: asyncio.TimerHandle | asyncio.Task[None] | None = None

    if TYPE_CHECKING:  # defined by the pools

        async def start_executor(self, workers: int | None = None) -> None:
            """Start the pool, with `workers` runners."""

        def __len__(self) -> int:
            """Return the number of queued tasks."""
            ...

    def is_started(self) -> bool:
        """Return whether the pool was started, or has stopped."""
        return self._life.started or self._life.stopped

    def start_soon(self) -> None:
        """Schedule a start after `START_SOON` seconds, so that pushed tasks run even if nobody waits for them."""
        self.start_is_due = True
        if self._starting is None and not self.is_started():
            self._starting = asyncio.get_running_loop().call_later(START_SOON, self._start_by_itself)

    def _start_by_itself(self) -> None:
        self._starting = asyncio.ensure_future(self._start_for_nobody())

    async def _start_for_nobody(self) -> None:
        try:
            with suppress(PoolClosed):  # the pool was stopped meanwhile
                await self.start_executor()
        except Exception:
            self.start_is_due = False
            _log.exception("%r could not be started; the next push tries again", self)
        finally:
            self._starting = None

    async def _before_stop(self, drain: bool) -> None:
        """Cancel a scheduled start, or start the pool now if there are tasks to drain."""
        if self._starting is not None and not isinstance(self._starting, asyncio.Task):  # a start sees it by itself
            self._starting.cancel()
        if drain and len(self) and not self.is_started():
            await self._start_for_nobody()


class CommandPool(_StartsByItself, command_pool.CommandPool):
    """The pool behind `sync.CommandPool`, on the background loop."""

    listeners: Listeners | None = None

    def make_handles(self, make: Callable[[CommandConfig, int], TaskHandle]) -> None:
        """Set the function that makes handles from a command and a priority."""
        self.listeners = Listeners()
        self._tasks.make_handle = make

    def cancel_task(self, handle: TaskHandle) -> None:
        """Cancel the task of `handle`, on the loop."""
        self._tasks.cancel_task(handle)

    async def stop(self, *, drain: bool = True, timeout: float | None = None) -> None:  # noqa: ASYNC109  # as that of the base
        """Stop the pool, after starting it if it has tasks to drain; see `aiocmdpool.CommandPool.stop`."""
        await self._before_stop(drain)
        await super().stop(drain=drain, timeout=timeout)


class CommandPoolSeg(_StartsByItself, seg_pool.CommandPoolSeg):
    """The pool behind `sync.CommandPoolSeg`.

    Attributes:
        before_wait: Called in a thread that is about to wait for a task.
        while_waiting: Called by it now and then.
        facade: The pool of the facade, which the handles keep.
    """

    facade: "weakref.ref[object]"

    before_wait: Callable[[], object]
    while_waiting: Callable[[], object]

    async def stop(self, *, drain: bool = True, timeout: float | None = None) -> None:  # noqa: ASYNC109  # as that of the base
        """Stop the pool, after starting it if it has tasks to drain; see `aiocmdpool.CommandPoolSeg.stop`."""
        await self._before_stop(drain)
        await super().stop(drain=drain, timeout=timeout)

    def _handle(self, command: CommandConfig) -> ThreadTaskHandle:
        return _KeepingHandle(command, self, self.facade())

    def tell(self, listener: Listener) -> None:
        """Call `listener`, on the loop in its next iteration: by then the runner refers to the handle no more."""
        if self._loop is not None and running_loop() is self._loop:
            self._loop.call_soon(listener)
        else:
            listener()

    def begin_wait(self, handle: TaskHandle) -> None:
        """Start the pool, unless it was started, before a thread waits for the task of `handle`."""
        super().begin_wait(handle)
        self.before_wait()

    def look(self, handle: TaskHandle) -> None:
        """Check the pool like the base class; if the interpreter exits, block for good or raise `PoolClosed`."""
        super().look(handle)
        self.while_waiting()


class _KeepingHandle(ThreadTaskHandle):
    """A handle that keeps the pool of the facade alive: a collected pool is closed, and a thread may still wait."""

    __slots__ = ("_facade",)

    def __init__(self, command: CommandConfig, owner: ThreadOwner, facade: object) -> None:
        super().__init__(command, owner)
        self._facade = facade
