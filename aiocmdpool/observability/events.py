"""What happens to a task, as frozen data that a hook is called with.

One callable that takes every event, rather than an object with a method for each kind: a function, a bound method or an
object with state will do; `match` chooses what one wants; a kind that is added later breaks nobody; and a mistyped
method name, which a protocol of optional methods would ignore in silence, cannot happen.

Of every task: `TaskQueued`, then `TaskStarted` unless it ended before, then `TaskFinished`, the last, exactly once.
"""

import dataclasses
from typing import Protocol

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ExecuteError
from aiocmdpool.commands.result import CommandResult, EndReason
from aiocmdpool.tasks.status import TaskStatus


@dataclasses.dataclass(frozen=True, slots=True)
class TaskEvent:
    """What all events have."""

    task_id: int
    """`TaskHandle.id`: unique in this process."""
    command: CommandConfig
    time: float
    """When it happened, on the clock of `time.monotonic`."""


@dataclasses.dataclass(frozen=True, slots=True)
class TaskQueued(TaskEvent):
    """A pool has accepted it. Told in the context of whoever pushed it."""

    priority: int


@dataclasses.dataclass(frozen=True, slots=True)
class TaskStarted(TaskEvent):
    """It has a permit, and is about to be handed to the executor."""

    pushed_at: float
    """When it was accepted."""

    @property
    def queued(self) -> float:
        """Seconds it waited in the queue and for a permit."""
        return self.time - self.pushed_at


@dataclasses.dataclass(frozen=True, slots=True)
class OutputLimitReached(TaskEvent):
    """`max_output` cut what it wrote, whatever the `output_policy`. Told when its run is over, since any executor can
    tell it then; `TaskFinished` follows."""

    result: CommandResult


@dataclasses.dataclass(frozen=True, slots=True)
class TaskFinished(TaskEvent):
    """It is settled. Told before anybody who awaits it goes on."""

    status: TaskStatus
    result: CommandResult | None
    """What the run gave; that of the error, where an error carries one."""
    error: BaseException | None
    pushed_at: float
    """When it was accepted."""
    started_at: float | None
    """When it was handed to the executor; `None` if it never was."""

    @property
    def queued(self) -> float:
        """Seconds it waited before it was started, or altogether if it never was."""
        return (self.time if self.started_at is None else self.started_at) - self.pushed_at

    @property
    def run(self) -> float | None:
        """Seconds the program ran; `None` without a result."""
        return self.result.duration if self.result is not None else None

    @property
    def spawn(self) -> float | None:
        """Seconds in the executor in which the program did not run; `None` without a result.

        That is its start and the end of what it left, the way there and back, and attempts before the last one.
        """
        if self.result is None or self.started_at is None:
            return None
        return max(0.0, self.time - self.started_at - self.result.duration)

    @property
    def end_reason(self) -> EndReason | None:
        """Why it ended; `None` for errors that are no end of a run, such as a program that was not found."""
        if isinstance(self.error, ExecuteError) and self.error.end_reason is not None:
            return self.error.end_reason
        return self.result.end_reason if self.result is not None else None


class EventHook(Protocol):
    """Whatever can be called with an event: a function, a bound method, an object with `__call__`.

    It is called on the loop, so it must not block, and in the context of the push: context variables are those of
    whoever pushed the task, and what one call sets the next one for the same task finds. What it returns is ignored;
    what it raises is logged once for each kind of event, and disturbs nobody. What is no `Exception` (`pytest.fail`,
    SystemExit) is the outcome of the task, or is raised from the loop if that has one already.
    """

    def __call__(self, event: TaskEvent, /) -> object: ...
