"""Counting what happened, and saying it in a line. Data and text only."""

import dataclasses
from collections.abc import Sequence

from aiocmdpool.cli.verdict import Outcome, Verdict

MAX_FAILURES_SHOWN = 3


@dataclasses.dataclass(slots=True)
class Tally:
    """The counts of a run."""

    succeeded: int = 0
    failed: int = 0
    killed: int = 0
    """Ended by us, at a halt or a signal."""
    skipped: int = 0
    """Done already, says the job log."""
    retried: int = 0
    """Attempts beyond the first."""
    undone: int = 0
    """Taken from the inputs, but never started."""
    told: int = 0
    """Failures that people have been told of already."""
    failures: list[str] = dataclasses.field(default_factory=list)
    """The first few of the others, for people."""

    @property
    def finished(self) -> int:
        """Commands that ended by themselves."""
        return self.succeeded + self.failed

    def count(self, outcome: Outcome, number: int, argv: Sequence[str]) -> None:
        """Count the end of a command."""
        match outcome.verdict:
            case Verdict.SUCCEEDED:
                self.succeeded += 1
            case Verdict.FAILED:
                self.failed += 1
                if outcome.error is not None:
                    self.told += 1
                elif len(self.failures) < MAX_FAILURES_SHOWN:
                    self.failures.append(outcome.describe(number, argv))
            case Verdict.KILLED:
                self.killed += 1
            case Verdict.UNDONE:
                self.undone += 1


def summary(tally: Tally, elapsed: float) -> str:
    """What to say at the end; lines without the last newline.

    Args:
        tally: The counts.
        elapsed: Seconds of the whole run.
    """
    rate = tally.finished / elapsed if elapsed > 0 else 0.0
    commands = f"{tally.finished} command{'' if tally.finished == 1 else 's'}"
    parts = [f"{commands} in {duration(elapsed)} ({rate:.1f}/s)", f"{tally.failed} failed"]
    parts += [f"{count} {name}" for name in ("killed", "skipped", "retried") if (count := getattr(tally, name))]
    lines = ["aiocmdpool: " + ", ".join(parts)]
    lines += [f"  failed: {failure}" for failure in tally.failures]
    more = tally.failed - tally.told - len(tally.failures)
    if more > 0:
        lines.append(f"  … and {more} more")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """`0.8 s`, `12.3 s`, `4:05`, `1:02:03`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
