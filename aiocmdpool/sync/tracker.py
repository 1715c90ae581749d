"""`TaskStatusTracker`, from any thread."""

from aiocmdpool.sync.binding import Link
from aiocmdpool.sync.on_loop import CommandPool
from aiocmdpool.tasks import status as task_status
from aiocmdpool.tasks.status import TaskStatus


class TaskStatusTracker:
    """What `CommandPool.tracker` of the facade is: the tracker of the pool, asked on its loop, which writes in it.

    Args:
        link: Of the pool.
    """

    def __init__(self, link: Link[CommandPool]) -> None:
        self._link = link

    @property
    def _tracker(self) -> task_status.TaskStatusTracker:
        return self._link.pool.tracker

    def get(self, task_id: int) -> TaskStatus | None:
        """The status of a task; `None` if it is unknown or forgotten."""
        return self._tracker.get(task_id)  # one look into a dict, which needs no loop

    def remove(self, task_id: int) -> TaskStatus | None:
        """Forget one task and return its last status."""
        return self._link.look(lambda: self._tracker.remove(task_id))

    def all(self) -> dict[int, TaskStatus]:
        """A copy of everything remembered."""
        return self._link.look(self._tracker.all)

    def counts(self) -> dict[TaskStatus, int]:
        """How many remembered tasks there are in each status."""
        return self._link.look(self._tracker.counts)

    def clear(self) -> None:
        """Forget the finished tasks."""
        self._link.look(self._tracker.clear)

    def __len__(self) -> int:
        return len(self._tracker)

    def __repr__(self) -> str:
        return f"<TaskStatusTracker of {len(self)} tasks>"
