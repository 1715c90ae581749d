"""`CommandPoolSeg` of the facade: threads push directly; only start and stop go through the background thread."""

import functools
import weakref
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from aiocmdpool.backends.config import ExecutionConfig
from aiocmdpool.backends.workers.statistics import ProcessPoolStatistics
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
from aiocmdpool.sync.binding import Binding
from aiocmdpool.sync.process_wide import stay_or_leave_at_exit
from aiocmdpool.sync.task_owner import start
from aiocmdpool.sync.tracker import TaskStatusTracker
from aiocmdpool.tasks.thread_handle import ThreadTaskHandle


class CommandPoolSeg:
    """A blocking pool that any thread pushes to; the arguments are those of `aiocmdpool.CommandPoolSeg`.

    A push goes straight into the queue, with no hop to the background thread.

    Example:
        >>> with CommandPoolSeg() as pool:
        ...     handles = pool.push_tasks([CommandConfig("echo", [str(number)]) for number in range(100)])
        ...     texts = [handle.result(timeout=60).text() for handle in handles]
    """

    def __init__(
        self,
        config: ExecutionConfig | None = None,
        *,
        executor: CommandExecutor | None = None,
        max_size: int | None = None,
        history: int = 1000,
        hooks: Iterable[EventHook] = (),
    ) -> None:
        new = functools.partial(
            on_loop.CommandPoolSeg,
            config,
            executor=executor,
            max_size=max_size,
            history=history,
            hooks=checked_hooks(hooks),
        )

        facade: weakref.ref[object] = weakref.ref(self)

        def make() -> on_loop.CommandPoolSeg:
            pool = new()
            pool.before_wait = lambda: start(binding)
            pool.while_waiting = stay_or_leave_at_exit
            pool.facade = facade
            return pool

        self._binding = binding = Binding(self, make, lambda pool: pool.stop(drain=False))
        self.config = self._pool.config
        self.tracker = TaskStatusTracker(binding)

    @property
    def _pool(self) -> on_loop.CommandPoolSeg:
        return self._binding.pool

    def push_task(self, command: CommandConfig) -> ThreadTaskHandle:
        """Add `command` to the queue; see `aiocmdpool.CommandPoolSeg.push_task`."""
        pool = self._pool
        handle = pool.push_task(command)
        if not pool.start_is_due:
            self._start_soon(pool)
        return handle

    def push_tasks(self, commands: Iterable[CommandConfig]) -> list[ThreadTaskHandle]:
        """Add all of `commands` to the queue now, in order, or none of them."""
        pool = self._pool
        handles = pool.push_tasks(commands)
        if not pool.start_is_due:
            self._start_soon(pool)
        return handles

    def _start_soon(self, pool: on_loop.CommandPoolSeg) -> None:
        """Schedule a start, once, so that pushed tasks run even if nobody waits for them."""
        pool.start_is_due = True
        try:
            self._binding.background().loop.call_soon_threadsafe(pool.start_soon)
        except (ExecuteError, RuntimeError):  # stopped, or no thread can be started: a waiting thread gets that error
            pool.start_is_due = False

    def execute(self, command: CommandConfig) -> CommandResult:
        """Push `command` to the queue and wait for its result.

        Interruption: an exception of a signal handler is raised when the command is withdrawn, or dead and reaped.
        """
        start(self._binding)
        return self._binding.await_(lambda: self._pool.execute(command))

    def pop_task(self) -> CommandConfig | None:
        """Take the next command off the queue, to run it elsewhere, and return it; `None` if the queue is empty."""
        return self._binding.peek(self._pool.pop_task)

    def clear(self) -> int:
        """Cancel every task in the queue, and return how many there were."""
        return self._binding.peek(self._pool.clear)

    def start_executor(self, workers: int | None = None) -> None:
        """Start to run the tasks in the queue. Harmless when repeated."""
        self._binding.await_(lambda: self._pool.start_executor(workers))

    def stop(self, *, drain: bool = True, timeout: float | None = None) -> None:
        """Accept no more tasks, and return when every task is settled and no process of the pool is left.

        Args:
            drain: Whether to run all tasks to their end; `False` cancels queued and running ones.
            timeout: Seconds the draining may take; tasks left after that are cancelled. `None`: no limit.
        """
        if not self._binding.is_ended:
            self._binding.await_(lambda: self._pool.stop(drain=drain, timeout=timeout))
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

    def statistics(self) -> PoolStatistics:
        """Return a snapshot of the counters."""
        return self._pool.statistics()

    @property
    def max_size(self) -> int | None:
        """Return the most tasks that the queue may hold; `None` for no limit."""
        return self._pool.max_size

    @property
    def executor(self) -> CommandExecutor | None:
        """Return the executor of the commands, on the background loop; `None` before it is made at the start."""
        return self._pool.executor

    def latencies(self) -> PoolLatencies:
        """Return a snapshot of the histograms of the seconds that tasks were queued, took to start, and ran."""
        return self._pool.latencies()

    def worker_statistics(self) -> ProcessPoolStatistics | None:
        """Return the counters of the workers; `None` if the backend has none, or before the start."""
        return self._pool.worker_statistics()

    def health(
        self,
        *,
        queue_use: float | None = health.DEFAULT_QUEUE_USE,
        long_running: float | None = health.DEFAULT_LONG_RUNNING,
    ) -> health.PoolHealth:
        """Return whether the pool can run commands, and why not; see `aiocmdpool.CommandPoolSeg.health`."""
        return self._pool.health(queue_use=queue_use, long_running=long_running)

    def __len__(self) -> int:
        return len(self._pool)

    def __bool__(self) -> bool:
        return True  # a pool with an empty queue is still true

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
