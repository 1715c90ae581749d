"""`PoolStatistics`: a snapshot of the counters of a pool, and `PoolCounters`: the counters."""

import dataclasses
from collections.abc import Callable

from aiocmdpool.commands.errors import CommandTimeout
from aiocmdpool.tasks.handle import Cancellation
from aiocmdpool.tasks.status import TaskStatus


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatistics:
    """Numbers of tasks. `submitted` is always the sum of `queued`, `running`, `completed`, `failed` and `cancelled`."""

    submitted: int
    """Number of tasks accepted so far."""
    queued: int
    """Number of tasks that wait in the queue or for a permit."""
    running: int
    completed: int
    failed: int
    cancelled: int
    timed_out: int
    """Number of failed tasks that ended by a deadline."""


class PoolCounters:
    """The counters behind `PoolStatistics`; the pool is their only writer.

    Args:
        uncounted: Function that returns the number of tasks that are not yet counted as submitted.
    """

    __slots__ = ("_uncounted", "cancelled", "completed", "failed", "running", "submitted", "timed_out")

    def __init__(self, uncounted: Callable[[], int] = int) -> None:
        self._uncounted = uncounted
        self.submitted = self.running = self.completed = self.failed = self.cancelled = self.timed_out = 0

    def settled(self, status: TaskStatus, error: BaseException | Cancellation | None) -> None:
        """Count a task that has ended with `status` and `error`."""
        if status is TaskStatus.COMPLETED:
            self.completed += 1
        elif status is TaskStatus.CANCELLED:
            self.cancelled += 1
        else:
            self.failed += 1
            if isinstance(error, CommandTimeout):
                self.timed_out += 1

    @property
    def unsettled(self) -> int:
        """Return the number of tasks that are accepted and have not ended."""
        return self.submitted + self._uncounted() - self.completed - self.failed - self.cancelled

    def snapshot(self) -> PoolStatistics:
        """Return a snapshot of the counters."""
        unsettled = self.unsettled
        return PoolStatistics(
            submitted=unsettled + self.completed + self.failed + self.cancelled,
            queued=unsettled - self.running,
            running=self.running,
            completed=self.completed,
            failed=self.failed,
            cancelled=self.cancelled,
            timed_out=self.timed_out,
        )
