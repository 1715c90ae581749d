"""`CommandPool` of the facade: blocking, for any number of threads."""

import asyncio
import functools
import weakref
from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import Literal, Self, overload

from aiocmdpool.backends.config import ExecutionConfig
from aiocmdpool.backends.workers.statistics import ProcessPoolStatistics
from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ExecuteError
from aiocmdpool.commands.executor import CommandExecutor
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.observability import health
from aiocmdpool.observability.events import EventHook
from aiocmdpool.observability.hooks import checked_hooks
from aiocmdpool.observability.observer import PoolLatencies
from aiocmdpool.pool.statistics import PoolStatistics
from aiocmdpool.sync import on_loop
from aiocmdpool.sync.binding import Binding, Life
from aiocmdpool.sync.calls import Call
from aiocmdpool.sync.mapping import map_commands
from aiocmdpool.sync.task_owner import PoolTaskOwner
from aiocmdpool.sync.tracker import TaskStatusTracker
from aiocmdpool.tasks.handle import TaskHandle
from aiocmdpool.tasks.thread_handle import ThreadTaskHandle


class CommandPool:
    """A blocking pool with a bounded queue and bounded concurrency; arguments as for `aiocmdpool.CommandPool`."""

    def __init__(
        self,
        config: ExecutionConfig | None = None,
        *,
        executor: CommandExecutor | None = None,
        max_size: int | None = 1000,
        permits: asyncio.Semaphore | None = None,
        history: int = 1000,
        hooks: Iterable[EventHook] = (),
    ) -> None:
        make = functools.partial(
            on_loop.CommandPool,
            config,
            executor=executor,
            max_size=max_size,
            permits=permits,
            history=history,
            hooks=checked_hooks(hooks),
        )
        self._binding = Binding(self, make, lambda pool: pool.stop(drain=False))
        self.config = self._pool.config
        self.tracker = TaskStatusTracker(self._binding)

    @property
    def _pool(self) -> on_loop.CommandPool:
        return self._binding.pool

    # -- pushing ----------------------------------------------------------------------------------------------------

    def push_task(
        self, command: CommandConfig, *, priority: int = 0, queue_timeout: float | None = None
    ) -> ThreadTaskHandle:
        """Add `command` to the queue, waiting for room if it is full; see `aiocmdpool.CommandPool.push_task`.

        Interruption: nothing is added, or the task is cancelled, because nobody has its handle.
        """

        async def push() -> ThreadTaskHandle:
            pool = self._pushable()
            return _ours(await pool.push_task(command, priority=priority, queue_timeout=queue_timeout))

        return self._binding.await_(push, ThreadTaskHandle.cancel)

    def try_push_task(
        self, command: CommandConfig, *, priority: int = 0, queue_timeout: float | None = None
    ) -> ThreadTaskHandle:
        """Add `command` to the queue if there is room now, or raise `QueueFull`."""

        def push() -> ThreadTaskHandle:
            pool = self._pushable()
            return _ours(pool.try_push_task(command, priority=priority, queue_timeout=queue_timeout))

        return self._binding.call(push, ThreadTaskHandle.cancel)

    def push_tasks(
        self, commands: Iterable[CommandConfig], *, priority: int = 0, queue_timeout: float | None = None
    ) -> list[ThreadTaskHandle]:
        """Add `commands` in order, waiting for room for each. If interrupted, those added so far stay in the queue."""
        return [self.push_task(c, priority=priority, queue_timeout=queue_timeout) for c in commands]

    def try_push_tasks(
        self, commands: Iterable[CommandConfig], *, priority: int = 0, queue_timeout: float | None = None
    ) -> list[ThreadTaskHandle]:
        """Add all of `commands` to the queue now, or none of them and raise `QueueFull`."""
        batch = list(commands)

        def push() -> list[ThreadTaskHandle]:
            pool = self._pushable()
            return list(map(_ours, pool.try_push_tasks(batch, priority=priority, queue_timeout=queue_timeout)))

        return self._binding.call(push)

    def execute(
        self, command: CommandConfig, *, priority: int = 0, queue_timeout: float | None = None
    ) -> CommandResult:
        """Push `command` to the queue and wait for its result; see `aiocmdpool.CommandPool.execute`."""
        return self._binding.await_(lambda: self._execute(command, priority, queue_timeout))

    async def _execute(self, command: CommandConfig, priority: int, queue_timeout: float | None) -> CommandResult:
        pool = self._pushable()
        if not pool.is_started():
            await pool.start_executor()
        return await pool.execute(command, priority=priority, queue_timeout=queue_timeout)

    def _pushable(self) -> on_loop.CommandPool:
        """Return the pool of this process, set up to start by itself and to make thread handles. Called on the loop."""
        life = self._binding.life()
        pool = life.pool
        if pool.listeners is None:
            pool.make_handles(functools.partial(_make_handle, weakref.ref(self), self._binding, life))
        pool.start_soon()
        return pool

    @overload
    def map(
        self,
        commands: Iterable[CommandConfig],
        *,
        ordered: bool = True,
        in_flight: int | None = None,
        return_errors: Literal[False] = False,
    ) -> Generator[CommandResult, None, None]: ...

    @overload
    def map(
        self,
        commands: Iterable[CommandConfig],
        *,
        ordered: bool = True,
        in_flight: int | None = None,
        return_errors: Literal[True],
    ) -> Generator[CommandResult | ExecuteError, None, None]: ...

    def map(
        self,
        commands: Iterable[CommandConfig],
        *,
        ordered: bool = True,
        in_flight: int | None = None,
        return_errors: bool = False,
    ) -> Generator[CommandResult | ExecuteError, None, None]:
        """Run many commands and iterate over their results.

        Args:
            commands: Taken one by one when there is room, in the iterating thread; it may be endless, and may block.
            ordered: Whether results come in the order of the commands, or as they complete.
            in_flight: Most commands that are pushed and not yet yielded. `None`: twice the concurrency.
            return_errors: Whether to yield an `ExecuteError` in place of the result instead of raising it.

        Raises:
            ExecuteError: The first error met; commands still in flight are cancelled.

        Ownership: closing the iterator cancels the commands in flight, and returns when they are dead. Leaving a `for`
            loop closes it if nothing else refers to the iterator; `contextlib.closing` makes that explicit.
        """
        limit = validate.whole_number(1, optional=True)("in_flight", in_flight) or 2 * self.config.concurrency
        background = self._binding.background()

        def launch(
            command: CommandConfig, on_done: Callable[[Call[CommandResult]], object] | None
        ) -> Call[CommandResult]:
            return Call(background, lambda: self._execute(command, 0, None), on_done=on_done)

        return map_commands(launch, commands, ordered=ordered, in_flight=limit, return_errors=return_errors)

    # -- the queue --------------------------------------------------------------------------------------------------

    def pop_task(self) -> CommandConfig | None:
        """Take the next command off the queue, to run it elsewhere, and return it; `None` if the queue is empty."""
        return self._binding.peek(self._pool.pop_task)

    def clear(self) -> int:
        """Cancel every task in the queue, and return how many there were."""
        return self._binding.peek(self._pool.clear)

    def __len__(self) -> int:
        return len(self._pool)

    def __bool__(self) -> bool:
        return True  # a pool with an empty queue is still true

    @property
    def max_size(self) -> int | None:
        """Return the most tasks that the queue may hold; `None` for no limit."""
        return self._pool.max_size

    @property
    def executor(self) -> CommandExecutor | None:
        """Return the executor of the commands, on the background loop; `None` before it is made at the start."""
        return self._pool.executor

    def statistics(self) -> PoolStatistics:
        """Return a snapshot of the counters."""
        return self._binding.read(self._pool.statistics)

    def latencies(self) -> PoolLatencies:
        """Return a snapshot of the histograms of the seconds that tasks were queued, took to start, and ran."""
        return self._binding.read(self._pool.latencies)

    def worker_statistics(self) -> ProcessPoolStatistics | None:
        """Return the counters of the workers; `None` if the backend has none, or before the start."""
        return self._binding.read(self._pool.worker_statistics)

    def health(
        self,
        *,
        queue_use: float | None = health.DEFAULT_QUEUE_USE,
        long_running: float | None = health.DEFAULT_LONG_RUNNING,
    ) -> health.PoolHealth:
        """Return whether the pool can run commands, and why not; see `aiocmdpool.CommandPool.health`."""
        return self._binding.read(lambda: self._pool.health(queue_use=queue_use, long_running=long_running))

    # -- lifecycle --------------------------------------------------------------------------------------------------

    def start_executor(self, workers: int | None = None) -> None:
        """Start to run the tasks in the queue. Harmless when repeated; see `aiocmdpool.CommandPool.start_executor`."""
        self._binding.await_(lambda: self._pool.start_executor(workers))

    def stop(self, *, drain: bool = True, timeout: float | None = None) -> None:
        """Accept no more tasks, and return when every task is settled and no process of the pool is left.

        Args:
            drain: Whether to run all tasks to their end; `False` cancels queued and running ones.
            timeout: Seconds the draining may take; tasks left after that are cancelled. `None`: no limit.

        Interruption: everything is ended at once, and the exception is raised when that is done.
        """
        if not self._binding.is_ended:
            try:
                self._binding.await_(lambda: self._pool.stop(drain=drain, timeout=timeout))
            finally:
                if self._pool.is_stopped():  # also after an interruption, which is raised when all is ended
                    self._binding.closed()

    def is_stopped(self) -> bool:
        """Return whether the pool accepts no more tasks."""
        return self._pool.is_stopped()

    def is_running(self) -> bool:
        """Return whether the pool runs the tasks pushed to it; before its first use it does not."""
        return self._pool.is_running()

    def is_empty(self) -> bool:
        """Return whether no task waits in the queue."""
        return self._pool.is_empty()

    def __enter__(self) -> Self:
        self.start_executor()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop(drain=kind is None)

    def _repr_html_(self) -> str:
        return self._binding.read(self._pool._repr_html_)

    def __repr__(self) -> str:
        return repr(self._pool)


def _make_handle(
    facade: "weakref.ref[CommandPool]",
    binding: Binding[on_loop.CommandPool],
    life: Life[on_loop.CommandPool],
    command: CommandConfig,
    priority: int,
) -> ThreadTaskHandle:
    return ThreadTaskHandle(command, PoolTaskOwner(facade(), binding, life), priority)


def _ours(handle: TaskHandle) -> ThreadTaskHandle:
    assert isinstance(handle, ThreadTaskHandle)  # see `_make_handle`
    return handle
