"""What became of a command, and the words for it. Decisions only."""

import dataclasses
import enum
import shlex
from collections.abc import Sequence

from aiocmdpool.cli.messages import one_line
from aiocmdpool.commands.errors import ExecuteError, TaskCancelled
from aiocmdpool.commands.result import CommandResult

MAX_SHOWN = 120  # characters of a command line in a message


class Verdict(enum.Enum):
    """How a command counts."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    KILLED = "killed"
    """Started, and ended by us before its time."""
    UNDONE = "undone"
    """Never started, because the run is being stopped."""


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one attempt."""

    verdict: Verdict
    result: CommandResult | None = None
    error: ExecuteError | None = None
    """What to tell people at once; a mere exit status is left to the summary."""

    @property
    def message(self) -> str | None:
        """The error in one line."""
        return one_line(str(self.error)) if self.error is not None else None

    def describe(self, number: int, argv: Sequence[str]) -> str:
        """A failure for the summary, where nothing was said about it before."""
        shown = one_line(shlex.join(argv))
        shown = shown if len(shown) <= MAX_SHOWN else shown[: MAX_SHOWN - 1] + "…"
        return f"input {number}: {shown}: {self.result.status_text() if self.result is not None else 'not started'}"

    @property
    def end_reason(self) -> str:
        """As the job log names it."""
        return self.result.end_reason.value if self.result is not None else "not_started"


def judge(result: CommandResult | None, error: BaseException | None, *, stopping: bool) -> Outcome:
    """The outcome of a settled task.

    Args:
        result: Its result, if it has one.
        error: Its error otherwise. One that is no `ExecuteError` is a defect, and raised.
        stopping: Whether we are ending commands, so that a cancellation is no failure.
    """
    if error is None:
        assert result is not None
        return Outcome(Verdict.SUCCEEDED if result.ok else Verdict.FAILED, result)
    if not isinstance(error, ExecuteError):
        raise error
    if isinstance(error, TaskCancelled) and stopping:
        return Outcome(Verdict.UNDONE if error.result is None else Verdict.KILLED, error.result)
    return Outcome(Verdict.FAILED, error.result, error)
