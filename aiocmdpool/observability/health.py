"""Decides whether a pool can do its work, from facts about it. Decisions only."""

import dataclasses
import enum

from aiocmdpool.backends.process_pool import ProcessPoolBackend
from aiocmdpool.backends.workers.process_pool import ProcessPool
from aiocmdpool.backends.workers.statistics import ProcessPoolStatistics
from aiocmdpool.commands import validate
from aiocmdpool.commands.errors import ConfigError
from aiocmdpool.commands.executor import CommandExecutor
from aiocmdpool.live.controlled import layers
from aiocmdpool.tasks.handle import TaskHandle

DEFAULT_QUEUE_USE = 0.9  # fraction of max_size
DEFAULT_LONG_RUNNING = 600.0  # seconds; pretty arbitrary: users with longer commands set it


class HealthState(enum.Enum):
    """State of a pool for a health check."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """The pool runs commands, but a reason to look at it is known; see `PoolHealth.reasons`."""
    UNHEALTHY = "unhealthy"
    """The pool runs no commands now."""

    def __repr__(self) -> str:
        return f"HealthState.{self.name}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PoolHealth:
    """The health of a pool at one moment. In a condition it is true unless the pool is unhealthy."""

    state: HealthState
    reasons: tuple[str, ...]
    """Reasons why the pool is not healthy, for people, the worst first; empty if it is."""
    workers: int | None
    """Number of workers that take commands, 0 before first use; `None` for an executor without known workers."""
    workers_wanted: int | None
    queue_use: float | None
    """Fraction of the queue in use, from 0 to 1; `None` without a limit."""
    long_running: int
    """Number of tasks that have run for longer than the threshold."""

    def __bool__(self) -> bool:
        return self.state is not HealthState.UNHEALTHY


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PoolFacts:
    """Facts about a pool from which its health is decided."""

    started: bool
    stopped: bool
    queued: int
    max_size: int | None
    workers: ProcessPoolStatistics | None
    running: tuple[TaskHandle, ...]
    now: float
    """Time of the facts, on the clock of `time.monotonic`."""
    loop_ended: bool = False
    """Whether its event loop was closed, or all tasks of that loop were cancelled."""
    stands_still: bool = False
    """Whether its event loop was stopped and not closed, and the thread that ran it is gone."""
    disturbed: str | None = None
    """Report on recent violations by executors or hooks; `None` if there are none."""


def worker_statistics(executor: CommandExecutor | None) -> ProcessPoolStatistics | None:
    """Return the counters of the workers behind an executor, through all policies and pools in front of them.

    `None` if that is no backend of this package with workers.
    """
    innermost: object = None
    for each in layers(executor):
        innermost = each
    if isinstance(innermost, ProcessPoolBackend):
        innermost = innermost.pool
    return innermost.statistics() if isinstance(innermost, ProcessPool) else None


def assess(facts: PoolFacts, *, queue_use: float | None, long_running: float | None) -> PoolHealth:
    """Return the health of a pool, given facts about it and thresholds.

    Args:
        facts: The facts about the pool.
        queue_use: Fraction of the queue in use from which on the pool is degraded; `None`: never.
        long_running: Seconds after which a running task makes the pool degraded; `None`: never.

    Raises:
        ConfigError: A threshold is out of range.
    """
    is_number = isinstance(queue_use, int | float)
    if queue_use is not None and not (is_number and 0 <= queue_use <= 1):
        raise ConfigError(f"queue_use: {queue_use!r} is not a share from 0 to 1", field="queue_use")
    validate.seconds("long_running", long_running)
    unhealthy: list[str] = []
    degraded: list[str] = []
    if facts.stopped:
        unhealthy.append("the pool is stopped")
    elif not facts.started:
        unhealthy.append("the pool is not started")
    elif facts.loop_ended:
        unhealthy.append("the event loop of the pool has ended, and nothing runs any more; make a new pool")
    elif facts.stands_still:
        unhealthy.append("the event loop of the pool stands still and its thread is gone; run it again")
    elif facts.workers is not None and not _resting(facts.workers):
        (degraded if facts.workers.workers else unhealthy).extend(_missing_workers(facts.workers))
    if facts.disturbed is not None:
        degraded.append(facts.disturbed)
    use = facts.queued / facts.max_size if facts.max_size is not None else None
    if use is not None and queue_use is not None and use >= queue_use:
        degraded.append(f"the queue is {use:.0%} full: {facts.queued} of {facts.max_size} tasks")
    late = _running_longer(facts, long_running)
    if late:
        worst = late[0]
        degraded.append(
            f"{len(late)} running for more than {long_running:g} s; the longest, task {worst.id}, "
            f"{worst.command.display()}, for {_age(worst, facts.now):.0f} s"
        )
    state = HealthState.UNHEALTHY if unhealthy else HealthState.DEGRADED if degraded else HealthState.HEALTHY
    return PoolHealth(
        state=state,
        reasons=(*unhealthy, *degraded),
        workers=facts.workers.workers if facts.workers is not None else None,
        workers_wanted=facts.workers.wanted if facts.workers is not None else None,
        queue_use=use,
        long_running=len(late),
    )


def _resting(workers: ProcessPoolStatistics) -> bool:
    """Return whether no worker has been needed yet."""
    return not (workers.in_flight or workers.completed or workers.lost or workers.failures)


def _missing_workers(workers: ProcessPoolStatistics) -> list[str]:
    if workers.workers >= workers.wanted:
        return []
    died = f"; the last {workers.failures} died before they were ready" if workers.failures else ""
    return [f"{workers.workers} of {workers.wanted} workers are alive{died}"]


def _running_longer(facts: PoolFacts, seconds: float | None) -> list[TaskHandle]:
    """Return the tasks that have run for longer than `seconds`, the longest first."""
    if seconds is None:
        return []
    late = [task for task in facts.running if _age(task, facts.now) > seconds]
    return sorted(late, key=lambda task: _age(task, facts.now), reverse=True)


def _age(task: TaskHandle, now: float) -> float:
    return now - (task.started_at if task.started_at is not None else now)
