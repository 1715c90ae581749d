"""Counting what happened, and saying it in a line. Data and text only."""

import dataclasses
from collections.abc import Sequence

from aiocmdpool.cli.messages import one_line
from aiocmdpool.cli.verdict import Outcome, Verdict
from aiocmdpool.commands.result import EndReason

MAX_FAILURES_SHOWN = 3
MAX_LEFT_SHOWN = 3  # names of programs that commands left running


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
    leaving: int = 0
    """Commands that left processes running, which have been ended."""
    left: dict[str, int] = dataclasses.field(default_factory=dict)
    """The first few names of those processes, with the input that each was first left by."""

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
        if outcome.verdict in (Verdict.SUCCEEDED, Verdict.FAILED):
            self.count_left(outcome, number)

    def count_left(self, outcome: Outcome, number: int) -> None:
        """Count what an attempt left running, which is ended for no other reason than that."""
        result = outcome.result
        if result is None or not result.leaked or result.end_reason is not EndReason.EXITED:
            return
        self.leaving += 1
        for process in result.leaked:
            if len(self.left) < MAX_LEFT_SHOWN:
                self.left.setdefault(process.name, number)


def summary(tally: Tally, elapsed: float) -> str:
    """What to say at the end, in whole lines.

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
    return "\n".join(lines) + "\n"


def left_running(tally: Tally) -> str:
    """What to say of processes that commands left running: a line, or nothing if there were none."""
    if not tally.leaving:
        return ""
    commands = "1 command left processes" if tally.leaving == 1 else f"{tally.leaving} commands left processes"
    names = ", ".join(f"{one_line(name)} (input {number})" for name, number in tally.left.items())
    return f"aiocmdpool: {commands} running, which have been ended: {names}; with --detach they are left alone\n"


def not_run(tally: Tally, seen: int, total: int | None, job_log: str | None) -> str:
    """What to say of inputs that have not been run, and how to go on: a line, or nothing if there are none.

    Args:
        tally: The counts.
        seen: Inputs taken from their source, skipped ones among them.
        total: How many there are; `None` where their end has not been seen.
        job_log: Where the run was recorded.
    """
    missing = tally.undone + tally.killed + (max(0, total - seen) if total is not None else 0)
    if total is None:
        what = (
            f"{missing} inputs, and all after the first {seen}, are" if missing else f"all after the first {seen} are"
        )
    elif missing:
        what = f"{missing} input{' is' if missing == 1 else 's are'}"
    else:
        return ""
    how = f"go on with --resume --joblog {job_log}" if job_log else "with --joblog FILE, --resume goes on after a stop"
    return f"aiocmdpool: {what} not done; {how}\n"


def duration(seconds: float) -> str:
    """`0.8 s`, `12.3 s`, `4:05`, `1:02:03`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
