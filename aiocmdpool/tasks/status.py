"""`TaskStatus`: the state of a task, and `TaskStatusTracker`, which remembers the states of many."""

import enum
from collections import Counter, deque


class TaskStatus(enum.Enum):
    """State of a task: PENDING, RUNNING, then one of three final states."""

    PENDING = "pending"
    """The task is accepted and waits in the queue or for a permit."""
    RUNNING = "running"
    """The command has been handed to the executor."""
    COMPLETED = "completed"
    """The executor returned a result (with any exit status, unless the command has `check`)."""
    FAILED = "failed"
    """The executor raised an error, or the queue deadline passed."""
    CANCELLED = "cancelled"
    """The task was cancelled before or while it ran."""

    def __init__(self, _: str) -> None:
        self.finished: bool = self.name in ("COMPLETED", "FAILED", "CANCELLED")
        """Whether the status is final."""

    def __repr__(self) -> str:
        return f"TaskStatus.{self.name}"


class TaskStatusTracker:
    """Statuses by task id; the oldest finished tasks are forgotten when there are more than `history` of them.

    Only the status is kept, never the task or its output: memory is bounded by the unfinished tasks and `history`.

    Args:
        history: Number of finished tasks to remember; 0 for none.
    """

    def __init__(self, history: int = 1000) -> None:
        self._history = history
        self._statuses: dict[int, TaskStatus] = {}
        self._finished: deque[int] = deque()

    def register(self, task_id: int, status: TaskStatus = TaskStatus.PENDING) -> None:
        """Record `status` as the status of the task `task_id`, new or known."""
        known = self._statuses.get(task_id)
        if known is not None and known.finished:
            self._finished.remove(task_id)
        if status.finished:
            self._finished.append(task_id)
        self._statuses[task_id] = status
        while len(self._finished) > self._history:
            self._statuses.pop(self._finished.popleft(), None)

    def get(self, task_id: int) -> TaskStatus | None:
        """Return the status of the task `task_id`; `None` if it is unknown or forgotten."""
        return self._statuses.get(task_id)

    def remove(self, task_id: int) -> TaskStatus | None:
        """Forget the task `task_id` and return its last status; `None` if it was unknown."""
        status = self._statuses.pop(task_id, None)
        if status is not None and status.finished:
            self._finished.remove(task_id)
        return status

    def all(self) -> dict[int, TaskStatus]:
        """Return a copy of all remembered statuses, by task id."""
        return dict(self._statuses)

    def counts(self) -> dict[TaskStatus, int]:
        """Return the number of remembered tasks in each status."""
        counts = Counter(self.all().values())  # of a copy: any thread may ask
        return {status: counts[status] for status in TaskStatus}

    def clear(self) -> None:
        """Forget all finished tasks; unfinished ones stay."""
        while self._finished:
            self._statuses.pop(self._finished.popleft(), None)

    def __len__(self) -> int:
        return len(self._statuses)

    def __repr__(self) -> str:
        counts = ", ".join(f"{number} {status.value}" for status, number in self.counts().items() if number)
        return f"<TaskStatusTracker {counts or 'empty'}>"
