"""`PoolView`: all that can be seen of a pool, and nothing that changes it. For the pools to share."""

import dataclasses
from time import monotonic

from aiocmdpool.backends.workers.statistics import ProcessPoolStatistics
from aiocmdpool.commands.executor import CommandExecutor
from aiocmdpool.observability import health
from aiocmdpool.observability.observer import PoolLatencies, PoolObserver
from aiocmdpool.pool.lifecycle import PoolLife
from aiocmdpool.pool.priority_queue import PoolQueue
from aiocmdpool.pool.runners import PoolTasks
from aiocmdpool.pool.statistics import PoolStatistics


class PoolView:
    """What a pool shows of itself. It sets these four when it is made."""

    _queue: PoolQueue
    _tasks: PoolTasks
    _observer: PoolObserver
    _life: PoolLife

    def __len__(self) -> int:
        return len(self._queue)

    def __bool__(self) -> bool:
        return True  # an empty pool is still a pool

    def is_empty(self) -> bool:
        """Return whether nothing waits in the queue."""
        return not len(self)

    @property
    def executor(self) -> CommandExecutor | None:
        """What runs the commands; `None` before the start, if it is made only then."""
        return self._life.executor

    @property
    def max_size(self) -> int | None:
        """Bound of the queue."""
        return self._queue.max_size

    def is_stopped(self) -> bool:
        """Whether the pool takes no more tasks."""
        return self._life.stopped

    def is_running(self) -> bool:
        """Return whether the pool runs what is pushed to it: it is started, and neither stopped nor about to."""
        return self._life.started and not self.is_stopped() and not self._life.loop_ended

    def statistics(self) -> PoolStatistics:
        """A snapshot of the counters."""
        return self._tasks.counters.snapshot()

    def latencies(self) -> PoolLatencies:
        """A snapshot of the histograms: how long tasks were queued, took to start, and ran."""
        return self._observer.latencies()

    def worker_statistics(self) -> ProcessPoolStatistics | None:
        """The counters of the workers; `None` without a backend that has any, or before the start."""
        return health.worker_statistics(self._life.executor)

    def health(
        self,
        *,
        queue_use: float | None = health.DEFAULT_QUEUE_USE,
        long_running: float | None = health.DEFAULT_LONG_RUNNING,
    ) -> health.PoolHealth:
        """Whether the pool can do its work, and what speaks against it.

        Args:
            queue_use: From which use of the queue on, 0 to 1, it counts as degraded; `None`: from none.
            long_running: Seconds after which a running task makes it degraded; `None`: never.

        Example:
            >>> health = pool.health(long_running=60)
            >>> PlainTextResponse("\\n".join(health.reasons) or "ok", status_code=200 if health else 503)
        """
        facts = health.PoolFacts(
            started=self._life.started,
            stopped=self._life.stopped,
            queued=len(self._queue),
            max_size=self._queue.max_size,
            workers=self.worker_statistics(),
            running=self._tasks.running(),
            loop_ended=self._life.loop_ended,
            disturbed=self._tasks.disturbances.recent(),
            now=monotonic(),
        )
        return health.judge(facts, queue_use=queue_use, long_running=long_running)

    def _repr_html_(self) -> str:
        from aiocmdpool.commands.html import table  # for notebooks alone

        return table(repr(self), dataclasses.asdict(self.statistics()))

    def __repr__(self) -> str:
        now = self.statistics()
        state = "stopped" if self._life.stopped else "running" if self._life.started else "new"
        return f"<{type(self).__name__} {state}, {now.queued} queued, {now.running} running, {now.submitted} submitted>"
