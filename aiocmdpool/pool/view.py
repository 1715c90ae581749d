"""`PoolView`: the read-only part that both pools share."""

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
    """Base class with all that can be observed of a pool. Subclasses set the four attributes when they are made."""

    _queue: PoolQueue
    _tasks: PoolTasks
    _observer: PoolObserver
    _life: PoolLife

    def __len__(self) -> int:
        return len(self._queue)

    def __bool__(self) -> bool:
        return True  # a pool with an empty queue is still true

    def is_empty(self) -> bool:
        """Return whether no task waits in the queue."""
        return not len(self)

    @property
    def executor(self) -> CommandExecutor | None:
        """Return the executor of the commands; `None` if it is made at the start, and before that."""
        return self._life.executor

    @property
    def max_size(self) -> int | None:
        """Return the most tasks that the queue may hold; `None` for no limit."""
        return self._queue.max_size

    def is_stopped(self) -> bool:
        """Return whether the pool accepts no more tasks."""
        return self._life.stopped

    def is_running(self) -> bool:
        """Return whether the pool runs the tasks pushed to it: it is started, and not stopped or stopping."""
        life = self._life
        return life.started and not self.is_stopped() and not life.loop_ended and not life.stands_still

    def statistics(self) -> PoolStatistics:
        """Return a snapshot of the counters."""
        return self._tasks.counters.snapshot()

    def latencies(self) -> PoolLatencies:
        """Return a snapshot of the latency histograms: how long tasks were queued, took to start, and ran."""
        return self._observer.latencies()

    def worker_statistics(self) -> ProcessPoolStatistics | None:
        """Return the counters of the worker processes; `None` before the start, or for a backend without workers."""
        return health.worker_statistics(self._life.executor)

    def health(
        self,
        *,
        queue_use: float | None = health.DEFAULT_QUEUE_USE,
        long_running: float | None = health.DEFAULT_LONG_RUNNING,
    ) -> health.PoolHealth:
        """Return whether the pool can do its work, with the reasons if it cannot.

        Args:
            queue_use: Fraction of the queue in use, 0 to 1, from which on the pool is degraded; `None`: never.
            long_running: Seconds after which a running task makes the pool degraded; `None`: never.

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
            stands_still=self._life.stands_still,
            disturbed=self._tasks.disturbances.recent(),
            now=monotonic(),
        )
        return health.assess(facts, queue_use=queue_use, long_running=long_running)

    def _repr_html_(self) -> str:
        from aiocmdpool.commands.html import table  # imported late: only notebooks need it

        return table(repr(self), dataclasses.asdict(self.statistics()))

    def __repr__(self) -> str:
        now = self.statistics()
        state = "stopped" if self._life.stopped else "running" if self._life.started else "new"
        return f"<{type(self).__name__} {state}, {now.queued} queued, {now.running} running, {now.submitted} submitted>"
