"""What a pool counts."""

import dataclasses
from collections.abc import Callable

from aiocmdpool.commands.errors import CommandTimeout
from aiocmdpool.tasks.handle import Cancellation
from aiocmdpool.tasks.status import TaskStatus


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatistics:
    """A snapshot. `submitted` is always the sum of `queued`, `running`, `completed`, `failed` and `cancelled`."""

    submitted: int
    """Tasks accepted so far."""
    queued: int
    """Waiting in the queue or for a permit."""
    running: int
    completed: int
    failed: int
    cancelled: int
    timed_out: int
    """Those of the failed that ended by a deadline."""


class PoolCounters:
    """The counters behind it; the pool is their only writer.

    Args:
        unheard: How many tasks there are beside those that have been counted as submitted.
    """

    __slots__ = ("_unheard", "cancelled", "completed", "failed", "running", "submitted", "timed_out")

    def __init__(self, unheard: Callable[[], int] = int) -> None:
        self._unheard = unheard
        self.submitted = self.running = self.completed = self.failed = self.cancelled = self.timed_out = 0

    def settled(self, status: TaskStatus, error: BaseException | Cancellation | None) -> None:
        """Count a task that has ended."""
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
        """Tasks accepted and not ended."""
        return self.submitted + self._unheard() - self.completed - self.failed - self.cancelled

    def snapshot(self) -> PoolStatistics:
        """The counters now."""
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
