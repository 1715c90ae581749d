"""Counting what happened, and saying it in a line. Data and text only."""

import dataclasses

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
    failures: list[str] = dataclasses.field(default_factory=list)
    """The first few, for people."""

    @property
    def finished(self) -> int:
        """Commands that ended by themselves."""
        return self.succeeded + self.failed

    def fail(self, description: str) -> None:
        """Count a failed command."""
        self.failed += 1
        if len(self.failures) < MAX_FAILURES_SHOWN:
            self.failures.append(description)


def summary(tally: Tally, elapsed: float) -> str:
    """What to say at the end; lines without the last newline.

    Args:
        tally: The counts.
        elapsed: Seconds of the whole run.
    """
    rate = tally.finished / elapsed if elapsed > 0 else 0.0
    commands = f"{tally.finished} command{'' if tally.finished == 1 else 's'}"
    parts = [f"{commands} in {duration(elapsed)} ({rate:.1f}/s)", f"{tally.failed} failed"]
    parts += [
        f"{count} {name}"
        for name in ("killed", "skipped", "retried")
        if (count := getattr(tally, name))
    ]
    lines = ["aiocmdpool: " + ", ".join(parts)]
    lines += [f"  failed: {failure}" for failure in tally.failures]
    if tally.failed > len(tally.failures):
        lines.append(f"  … and {tally.failed - len(tally.failures)} more")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """`0.8 s`, `12.3 s`, `4:05`, `1:02:03`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
