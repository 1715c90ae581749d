"""`Verdict` and `AttemptOutcome`: how a command counts, and the texts about it. Decisions only."""

import dataclasses
import enum
import errno
import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiocmdpool.cli.messages import one_line
from aiocmdpool.commands.errors import ExecuteError, TaskCancelled, WorkerLost
from aiocmdpool.commands.result import CommandResult, EndReason

if TYPE_CHECKING:
    from aiocmdpool.cli.ending import Ending

MAX_SHOWN = 120  # characters of a command line in a message
NOT_STARTED = "not_started"  # in the job log, in addition to the values of `EndReason`
NOT_FOUND, NOT_EXECUTABLE = 127, 126  # exit statuses of a shell (POSIX, 2.8.2)
_SHELL_STATUSES = {NOT_FOUND: "a program was not found", NOT_EXECUTABLE: "a program could not be executed"}
_OF_A_SHELL = re.compile(r"[\s|;&<>$`*?]")
_UNUSABLE = {
    errno.ENOENT: NOT_FOUND,
    errno.ENOTDIR: NOT_FOUND,
    errno.EACCES: NOT_EXECUTABLE,
    errno.ENOEXEC: NOT_EXECUTABLE,
}


class Verdict(enum.Enum):
    """The way in which a command counts in the tally."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    KILLED = "killed"
    """The command was started, and ended early by this program."""
    UNDONE = "undone"
    """The command never started, because the run is being stopped."""


@dataclasses.dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """The outcome of one attempt to run a command."""

    verdict: Verdict
    result: CommandResult | None = None
    error: ExecuteError | None = None
    """Error to report at once; a mere exit status is left to the summary."""

    @property
    def message(self) -> str | None:
        """Return the error as one line; `None` if there is none."""
        return one_line(str(self.error)) if self.error is not None else None

    def describe(self, number: int, argv: Sequence[str]) -> str:
        """Return a text about a failure for the summary, if nothing was reported about it before."""
        return f"input {number}: {shown(argv)}: {self._status() if self.result is not None else 'not started'}"

    def _status(self) -> str:
        assert self.result is not None
        meaning = _SHELL_STATUSES.get(self.result.returncode)
        return self.result.status_text() + (f" ({meaning})" if meaning else "")

    @property
    def end_reason(self) -> str:
        """Return the end reason as in the job log."""
        if self.result is not None:
            return self.result.end_reason.value
        if isinstance(self.error, WorkerLost):
            return EndReason.WORKER_LOST.value
        reason = self.error.end_reason if self.error is not None else None
        return reason.value if reason is not None else NOT_STARTED

    @property
    def may_have_run(self) -> bool:
        """Return whether the command was started, as far as is known."""
        return self.end_reason != NOT_STARTED

    @property
    def unusable_program(self) -> int | None:
        """Return exit status 126 or 127 if the program cannot be executed or does not exist; `None` otherwise."""
        number = self.error.errno if isinstance(self.error, OSError) and self.result is None else None
        return _UNUSABLE.get(number) if number is not None else None


def shown(argv: Sequence[str]) -> str:
    """Return a command line for people, cut to `MAX_SHOWN` characters."""
    text = one_line(shlex.join(argv))
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def unusable_text(outcome: AttemptOutcome, program: str) -> str:
    """Return a text that says why no command can be started, and what to do."""
    hint = f"; for a shell command type --shell {shlex.quote(program)}" if _OF_A_SHELL.search(program) else ""
    return f"{outcome.message}{hint}"


def verdict_of(
    result: CommandResult | None, error: BaseException | None, *, stopping: bool, ending: "Ending | None" = None
) -> AttemptOutcome:
    """Return the outcome of a settled task.

    Args:
        result: Result of the task; `None` if it has none.
        error: Error of the task; one that is no `ExecuteError` is a defect, and raised.
        stopping: Whether the run is being stopped, so that a cancellation is no failure.
        ending: Reason why this program ended just this command; `None` if it did not.
    """
    if error is not None and not isinstance(error, ExecuteError):
        raise error
    if ending is not None and (error is None or isinstance(error, TaskCancelled)):
        return _ended(result if error is None else error.result, ending)
    if error is None:
        assert result is not None
        return AttemptOutcome(Verdict.SUCCEEDED if result.ok else Verdict.FAILED, result)
    if isinstance(error, TaskCancelled) and stopping:
        return AttemptOutcome(Verdict.UNDONE if error.result is None else Verdict.KILLED, error.result)
    return AttemptOutcome(Verdict.FAILED, error.result, error)


def _ended(result: CommandResult | None, ending: "Ending") -> AttemptOutcome:
    """Return the outcome of a command that this program has ended."""
    if result is None:
        return AttemptOutcome(Verdict.FAILED, None, TaskCancelled(ending.text, end_reason=ending.reason))
    result = dataclasses.replace(result, end_reason=ending.reason)
    text = f"{shown(result.command.argv)}: {ending.text}; {result.status_text()}"
    return AttemptOutcome(Verdict.FAILED, result, TaskCancelled(text, result=result))
