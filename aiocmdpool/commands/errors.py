"""All errors of this package, as a tree under `ExecuteError`.

Each message names the command, the cause and, where there is one, the cure. An error after the program's start
carries a `CommandResult` with the output so far. `asyncio.CancelledError` is never wrapped and never invented.
"""

import os
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Hashable

    from aiocmdpool.commands.command import CommandConfig
    from aiocmdpool.commands.result import CommandResult, EndReason, KillTier


class ExecuteError(Exception):
    """Base class of all errors of this package.

    Attributes:
        command: The command that failed; `None` if the error is not about one.
        result: The result with the output so far; `None` if the program did not start.
        end_reason: Why the run ended, or why it never started; `None` if this error is not about a run.
        task_id: Id of the pool's task that ended with this error; `None` without a pool.
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
        """Return all attributes, with a copy of the notes, for `BaseException.__setstate__` to restore."""
        state = dict(vars(self))
        if "__notes__" in state:
            state["__notes__"] = list(state["__notes__"])
        return state

    def __reduce__(self) -> tuple[Any, ...]:
        return self._unpickle, (self.args,), self._state()

    @classmethod
    def _unpickle(cls, args: tuple[object, ...]) -> Self:
        """Make an error without its `__init__`, because subclasses of users may have other required arguments."""
        error = cls.__new__(cls, *args)
        error.args = args  # `OSError` sets its `args` only in `__init__`
        return error


class IoError(ExecuteError, OSError):
    """The program could not be started, or one of its streams could not be opened. Also an `OSError`."""

    def __init__(self, message: str, *, errno: int | None = None, filename: str | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.errno = errno
        self.strerror = os.strerror(errno) if errno else None
        self.filename = filename

    def _state(self) -> dict[str, Any]:  # `OSError` keeps these three outside of `__dict__`
        return {**super()._state(), "errno": self.errno, "strerror": self.strerror, "filename": self.filename}


class CommandTimeout(ExecuteError, TimeoutError):
    """A deadline passed: `timeout`, `idle_timeout`, or the queue deadline of the task. Also a `TimeoutError`."""


class ChildError(ExecuteError):
    """The program failed, or the worker that ran it did."""


class NonZeroExit(ChildError):
    """The program did not exit with status 0, and its command was made with `check=True`."""


class OutputLimitExceeded(ChildError):
    """The program wrote more than its `max_output`, or more than was left of its pool's `max_output_total`.

    The program has been ended, and the result holds the beginning of its output.
    """


class WorkerLost(ChildError):
    """The worker process that ran the command died or hung, or no worker could be started.

    Attributes:
        killed_by: How the worker's remaining processes had to be ended; `None` if there were none.
        may_have_run: Whether the command may have run; `False` if no worker was there to run it.
    """

    def __init__(
        self, message: str, *, killed_by: "KillTier | None" = None, may_have_run: bool = True, **details: Any
    ) -> None:
        super().__init__(message, **details)
        self.killed_by = killed_by
        self.may_have_run = may_have_run


class TaskCancelled(ExecuteError):
    """The task was cancelled by somebody other than its awaiter, or the pool or backend that ran it was closed."""


class QueueFull(ExecuteError):
    """The pool's queue has no room for the command at this moment."""


class CircuitOpen(ExecuteError):
    """A circuit breaker did not let the command start, because similar commands have failed in a row.

    Attributes:
        key: The circuit, as the breaker's `key` function named it for the command.
        retry_after: Seconds until one command is let through as a trial; `None` while a trial is running.
    """

    def __init__(
        self, message: str, *, key: "Hashable" = None, retry_after: float | None = None, **details: Any
    ) -> None:
        super().__init__(message, **details)
        self.key = key
        self.retry_after = retry_after


class StdinClosed(IoError, BrokenPipeError):
    """The stdin of a live process is closed, by the program or by the caller. Also a `BrokenPipeError`."""


class LineTooLong(ExecuteError, ValueError):
    """A live process wrote a line longer than its reader's limit; it can still be read. Also a `ValueError`."""


class PoolClosed(ExecuteError):
    """The pool or backend takes no commands, because it is stopped or was never started."""


class ConfigError(ExecuteError, ValueError):
    """A setting is wrong; raised when the object is made. Also a `ValueError`.

    Attributes:
        field: The name of the setting.
    """

    def __init__(self, message: str, *, field: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.field = field
