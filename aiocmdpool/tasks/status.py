"""Where a task is in its life, and the tracker that remembers it for many."""

import enum
from collections import Counter, deque


class TaskStatus(enum.Enum):
    """The life of a task: PENDING, RUNNING, then one of the three ends, once and for all."""

    PENDING = "pending"
    """Accepted, waiting in the queue or for a permit."""
    RUNNING = "running"
    """Handed to the executor."""
    COMPLETED = "completed"
    """The executor returned a result (whatever its exit status, unless the command says `check`)."""
    FAILED = "failed"
    """The executor raised an error."""
    CANCELLED = "cancelled"
    """Cancelled before or while it ran."""

    def __init__(self, _: str) -> None:
        self.finished: bool = self.name in ("COMPLETED", "FAILED", "CANCELLED")
        """Whether the task has been settled."""

    def __repr__(self) -> str:
        return f"TaskStatus.{self.name}"


class TaskStatusTracker:
    """Statuses by task id. Finished tasks are forgotten oldest first once there are more than `history` of them.

    Only the status is kept, never the task or its output: memory is bounded by the unfinished tasks and `history`.

    Args:
        history: How many finished tasks to remember; 0 remembers none.
    """

    def __init__(self, history: int = 1000) -> None:
        self._history = history
        self._statuses: dict[int, TaskStatus] = {}
        self._finished: deque[int] = deque()

    def register(self, task_id: int, status: TaskStatus = TaskStatus.PENDING) -> None:
        """Note the status of a task, new or known."""
        known = self._statuses.get(task_id)
        if known is not None and known.finished:
            self._finished.remove(task_id)
        if status.finished:
            self._finished.append(task_id)
        self._statuses[task_id] = status
        while len(self._finished) > self._history:
            self._statuses.pop(self._finished.popleft(), None)

    def get(self, task_id: int) -> TaskStatus | None:
        """The status of a task; `None` if it is unknown or forgotten."""
        return self._statuses.get(task_id)

    def remove(self, task_id: int) -> TaskStatus | None:
        """Forget one task and return its last status."""
        status = self._statuses.pop(task_id, None)
        if status is not None and status.finished:
            self._finished.remove(task_id)
        return status

    def all(self) -> dict[int, TaskStatus]:
        """A copy of everything remembered."""
        return dict(self._statuses)

    def counts(self) -> dict[TaskStatus, int]:
        """How many remembered tasks there are in each status."""
        counts = Counter(self._statuses.values())
        return {status: counts[status] for status in TaskStatus}

    def clear(self) -> None:
        """Forget the finished tasks."""
        while self._finished:
            self._statuses.pop(self._finished.popleft(), None)

    def __len__(self) -> int:
        return len(self._statuses)

    def __repr__(self) -> str:
        counts = ", ".join(f"{number} {status.value}" for status, number in self.counts().items() if number)
        return f"<TaskStatusTracker {counts or 'empty'}>"
