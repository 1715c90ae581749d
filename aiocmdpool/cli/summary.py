"""`Tally`: counts what happened in a run; and the texts of the summary. Data and text only."""

import dataclasses
from collections.abc import Sequence

from aiocmdpool.cli.messages import one_line
from aiocmdpool.cli.verdict import AttemptOutcome, Verdict
from aiocmdpool.commands.result import EndReason

MAX_FAILURES_SHOWN = 3
MAX_LEFT_SHOWN = 3  # names of programs that commands left running


@dataclasses.dataclass(slots=True)
class Tally:
    """The counts of how the commands of a run have ended."""

    succeeded: int = 0
    failed: int = 0
    killed: int = 0
    """Number of commands ended by this program, at a halt or a signal."""
    skipped: int = 0
    """Number of commands skipped because the job log has them as done."""
    retried: int = 0
    """Number of attempts beyond the first ones."""
    undone: int = 0
    """Number of inputs that were read but whose commands never started."""
    told: int = 0
    """Number of failures that have been reported already."""
    failures: list[str] = dataclasses.field(default_factory=list)
    """Texts of the first few other failures, for people."""
    leaving: int = 0
    """Number of commands that left processes running, which have been killed."""
    left: dict[str, int] = dataclasses.field(default_factory=dict)
    """Names of the first few of those processes, each with the input that first left it."""

    @property
    def finished(self) -> int:
        """Return the number of commands that ended by themselves."""
        return self.succeeded + self.failed

    def count(self, outcome: AttemptOutcome, number: int, argv: Sequence[str]) -> None:
        """Count the end of the command with this input number."""
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

    def count_left(self, outcome: AttemptOutcome, number: int) -> None:
        """Count an attempt that left processes running and ended for no other reason."""
        result = outcome.result
        if result is None or not result.leaked or result.end_reason is not EndReason.EXITED:
            return
        self.leaving += 1
        for process in result.leaked:
            if len(self.left) < MAX_LEFT_SHOWN:
                self.left.setdefault(process.name, number)


def summary(tally: Tally, elapsed: float) -> str:
    """Return the summary of the run, in whole lines.

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
    """Return a line about processes that commands left running; empty if there were none."""
    if not tally.leaving:
        return ""
    commands = "1 command left processes" if tally.leaving == 1 else f"{tally.leaving} commands left processes"
    names = ", ".join(f"{one_line(name)} (input {number})" for name, number in tally.left.items())
    return f"aiocmdpool: {commands} running, which have been ended: {names}; with --detach they are left alone\n"


def not_run(tally: Tally, seen: int, total: int | None, job_log: str | None) -> str:
    """Return a line about inputs that were not run, and how to continue; empty if there are none.

    Args:
        tally: The counts.
        seen: Number of inputs read from their source, including skipped ones.
        total: Number of all inputs; `None` if the end has not been seen.
        job_log: Path of the job log; `None` without one.
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
    """Return a duration for people: `0.8 s`, `12.3 s`, `4:05`, `1:02:03`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
