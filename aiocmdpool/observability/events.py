"""`TaskEvent` and its kinds: the events of a task, as frozen data that hooks are called with.

A hook is one callable for every event, and not an object with a method for each kind: a function, a bound method or an
object with state will do; `match` selects kinds; a kind that is added later breaks nobody; and a mistyped method name,
which a protocol of optional methods would silently ignore, cannot occur.

Each task has `TaskQueued`, then `TaskStarted` unless it ended before, and last `TaskFinished`, exactly once.
"""

import dataclasses
from typing import Protocol

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ExecuteError
from aiocmdpool.commands.result import CommandResult, EndReason
from aiocmdpool.tasks.status import TaskStatus


@dataclasses.dataclass(frozen=True, slots=True)
class TaskEvent:
    """Base class of all events of a task."""

    task_id: int
    """Id of the task as in `TaskHandle.id`: unique in this process."""
    command: CommandConfig
    time: float
    """Time of the event, on the clock of `time.monotonic`."""


@dataclasses.dataclass(frozen=True, slots=True)
class TaskQueued(TaskEvent):
    """A pool has accepted the task. Hooks are called in the context of the pusher."""

    priority: int


@dataclasses.dataclass(frozen=True, slots=True)
class TaskStarted(TaskEvent):
    """The task has a permit, and is about to be handed to the executor."""

    pushed_at: float
    """Time at which the task was accepted, on the clock of `time.monotonic`."""

    @property
    def queued(self) -> float:
        """Return the seconds that the task waited in the queue and for a permit."""
        return self.time - self.pushed_at


@dataclasses.dataclass(frozen=True, slots=True)
class OutputLimitReached(TaskEvent):
    """The output of the run was cut by `max_output`, under any `output_policy`.

    Sent when the run is over, because any executor can report it then; `TaskFinished` follows.
    """

    result: CommandResult


@dataclasses.dataclass(frozen=True, slots=True)
class TaskFinished(TaskEvent):
    """The task is settled. Hooks are called before anybody who awaits it continues."""

    status: TaskStatus
    result: CommandResult | None
    """Result of the run; that of the error, if the task has an error that carries one."""
    error: BaseException | None
    pushed_at: float
    """Time at which the task was accepted, on the clock of `time.monotonic`."""
    started_at: float | None
    """Time at which the task was handed to the executor; `None` if it never was."""

    @property
    def queued(self) -> float:
        """Return the seconds that the task waited before its start, or in total if it never started."""
        return (self.time if self.started_at is None else self.started_at) - self.pushed_at

    @property
    def run(self) -> float | None:
        """Return the seconds that the program ran; `None` without a result."""
        return self.result.duration if self.result is not None else None

    @property
    def spawn(self) -> float | None:
        """Return the seconds in the executor in which the program did not run; `None` without a result.

        These are the start, the end of leftovers, messages to and from a worker, and attempts before the last one.
        """
        if self.result is None or self.started_at is None:
            return None
        return max(0.0, self.time - self.started_at - self.result.duration)

    @property
    def end_reason(self) -> EndReason | None:
        """Return the end reason; `None` for errors that are no end of a run, such as a missing program."""
        if isinstance(self.error, ExecuteError) and self.error.end_reason is not None:
            return self.error.end_reason
        return self.result.end_reason if self.result is not None else None


class EventHook(Protocol):
    """Any callable that takes an event: a function, a bound method, an object with `__call__`.

    It is called on the loop, so it must not block, and in the context of the push: it sees the context variables of the
    pusher, and variables that it sets are seen by its later calls for the same task. Its return value is ignored; an
    exception is logged once for each kind of event, and affects nobody. One that is no `Exception` (`pytest.fail`,
    SystemExit) becomes the outcome of the task, or is raised from the loop if the task has one already.
    """

    def __call__(self, event: TaskEvent, /) -> object: ...
