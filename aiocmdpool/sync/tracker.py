"""`TaskStatusTracker` of the facade, for any thread."""

from aiocmdpool.sync.binding import Binding
from aiocmdpool.sync.on_loop import CommandPool, CommandPoolSeg
from aiocmdpool.tasks import status as task_status
from aiocmdpool.tasks.status import TaskStatus


class TaskStatusTracker:
    """The `tracker` of the facade's `CommandPool`: that of its pool, read on the loop that writes to it."""

    def __init__(self, binding: Binding[CommandPool] | Binding[CommandPoolSeg]) -> None:
        self._binding = binding

    @property
    def _tracker(self) -> task_status.TaskStatusTracker:
        return self._binding.pool.tracker

    def get(self, task_id: int) -> TaskStatus | None:
        """Return the status of the task `task_id`; `None` if it is unknown or forgotten."""
        return self._tracker.get(task_id)  # one dict lookup, which needs no loop

    def remove(self, task_id: int) -> TaskStatus | None:
        """Forget the task `task_id` and return its last status; `None` if it was unknown."""
        return self._binding.peek(lambda: self._tracker.remove(task_id))

    def all(self) -> dict[int, TaskStatus]:
        """Return the statuses of all remembered tasks by task id, as a copy."""
        return self._binding.read(self._tracker.all)

    def counts(self) -> dict[TaskStatus, int]:
        """Return the number of remembered tasks in each status."""
        return self._binding.read(self._tracker.counts)

    def clear(self) -> None:
        """Forget all finished tasks; unfinished ones stay."""
        self._binding.peek(self._tracker.clear)

    def __len__(self) -> int:
        return len(self._tracker)

    def __repr__(self) -> str:
        return f"<TaskStatusTracker of {len(self)} tasks>"
