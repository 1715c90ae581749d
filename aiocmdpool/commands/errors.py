"""Everything that can go wrong, as a tree under `ExecuteError`.

An error names the command, the cause and, where there is one, the cure. Raised after the program started, it
carries the `CommandResult` with the output so far. `asyncio.CancelledError` is never wrapped and never invented.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

    from aiocmdpool.commands.command import CommandConfig
    from aiocmdpool.commands.result import CommandResult, EndReason, KillTier


class ExecuteError(Exception):
    """Root of all errors of this package.

    Attributes:
        command: The command concerned, where there is one.
        result: What the run gave, where the program started.
        end_reason: Why the run, or the wait for it, ended; `None` where it never was to be.
        task_id: The id of the task of a pool that ended with it; `None` without a pool.
        started_at: When that task, or the program, was started, in seconds since the epoch; `None` if it was not.
    """

    def __init__(
        self,
        message: str,
        *,
        command: "CommandConfig | None" = None,
        result: "CommandResult | None" = None,
        end_reason: "EndReason | None" = None,
    ) -> None:
        super().__init__(message)
        self.command = command
        self.result = result
        self.end_reason = end_reason
        self.task_id: int | None = None
        self.started_at: float | None = None
        if result is not None:
            self.task_id, self.started_at = result.task_id, result.started_at
            self.command = command or result.command
            self.end_reason = end_reason or result.end_reason

    def __str__(self) -> str:
        return str(self.args[0])

    def _state(self) -> dict[str, Any]:
        """All that it carries, notes among it; `BaseException.__setstate__` puts that back."""
        state = dict(vars(self))
        if "__notes__" in state:
            state["__notes__"] = list(state["__notes__"])
        return state

    def __reduce__(self) -> tuple[Any, ...]:
        # Not through `__init__`, whose arguments in a class of somebody else are nobody's business here.
        return _restore, (type(self), self.args), self._state()


def _restore(kind: type[ExecuteError], args: tuple[object, ...]) -> ExecuteError:
    error = kind.__new__(kind, *args)
    error.args = args  # an `OSError` leaves that to its `__init__`
    return error


class IoError(ExecuteError, OSError):
    """The program could not be started, or its streams could not be opened. Also an `OSError`."""

    def __init__(self, message: str, *, errno: int | None = None, filename: str | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.errno = errno
        self.strerror = os.strerror(errno) if errno else None
        self.filename = filename

    def _state(self) -> dict[str, Any]:  # these three `OSError` keeps in places of its own
        return {**super()._state(), "errno": self.errno, "strerror": self.strerror, "filename": self.filename}


class CommandTimeout(ExecuteError, TimeoutError):
    """A deadline passed: of the run, of its silence, or of its wait in the queue. Also a `TimeoutError`."""


class ChildError(ExecuteError):
    """The program, or the worker that ran it, failed."""


class NonZeroExit(ChildError):
    """The program ended with something else than 0 and its command said `check=True`."""


class OutputLimitExceeded(ChildError):
    """The program wrote more than `max_output`, or than was left of its pool's `max_output_total`.

    It was ended, and the result holds the head of its output.
    """


class WorkerLost(ChildError):
    """The worker process that ran the command died or hung, or none can be started.

    Attributes:
        killed_by: What it took to end what the worker had started; `None` where nothing of it was left.
        may_have_run: Whether the command may have run; not if there was no worker.
    """

    def __init__(
        self, message: str, *, killed_by: "KillTier | None" = None, may_have_run: bool = True, **details: Any
    ) -> None:
        super().__init__(message, **details)
        self.killed_by = killed_by
        self.may_have_run = may_have_run


class TaskCancelled(ExecuteError):
    """Somebody else cancelled the task, or closed what ran it."""


class QueueFull(ExecuteError):
    """There is no room in the pool's queue now."""


class CircuitOpen(ExecuteError):
    """A circuit breaker did not let the command start: others like it have failed in a row.

    Attributes:
        key: Which circuit: what the breaker's `key` gave for the command.
        retry_after: Seconds until a command is let through to try; `None` while one is trying.
    """

    def __init__(
        self, message: str, *, key: "Hashable" = None, retry_after: float | None = None, **details: Any
    ) -> None:
        super().__init__(message, **details)
        self.key = key
        self.retry_after = retry_after


class StdinClosed(IoError, BrokenPipeError):
    """A live process reads its stdin no more, or it was closed here. Also a `BrokenPipeError`."""


class LineTooLong(ExecuteError, ValueError):
    """A live process wrote a longer line than its reader takes; it is still to be read. Also a `ValueError`."""


class PoolClosed(ExecuteError):
    """The pool or backend takes no commands: it is stopped, or was never started."""


class ConfigError(ExecuteError, ValueError):
    """A setting is wrong. Raised when the object is made; also a `ValueError`.

    Attributes:
        field: The name of the setting.
    """

    def __init__(self, message: str, *, field: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.field = field
