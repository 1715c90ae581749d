"""Decides why and how hard a run is stopped, and its exit status. Decisions only.

The level only rises. The first reason wins, except that a signal or a closed output replaces the reason of a run that
was only letting commands finish.
"""

import dataclasses
import enum

MAX_FAILED_STATUS = 101  # "more than 100 failed", as in GNU parallel
OTHER_ERROR_STATUS = 255  # usage, input and output errors; above all failure counts


class StopLevel(enum.IntEnum):
    """The stages of stopping a run."""

    RUNNING = 0
    SOON = 1
    """Start no new commands; running ones finish."""
    NOW = 2
    """Start no new commands, and end running ones."""


class StopReason(enum.Enum):
    """The reason why the run was stopped, with its exit status."""

    HALT = None
    """The failures that `--halt` allows were reached; their number is the status."""
    INTERRUPTED = 130
    """The user pressed Ctrl-C (SIGINT)."""
    TERMINATED = 143
    """This process was terminated by SIGTERM."""
    OUTPUT_CLOSED = 141
    """The reader of standard output is gone: the status of a program killed by SIGPIPE."""
    NOT_FOUND = 127
    """The program of all commands does not exist."""
    NOT_EXECUTABLE = 126
    """The program of all commands cannot be executed."""
    FAILED = OTHER_ERROR_STATUS
    """Inputs could not be read, or output or the job log could not be written."""


@dataclasses.dataclass(slots=True)
class Stop:
    """The state of stopping, which only `request` changes."""

    level: StopLevel = StopLevel.RUNNING
    reason: StopReason | None = None

    def request(self, level: StopLevel, reason: StopReason) -> bool:
        """Stop at least at this level; return whether that is higher than before."""
        if level <= self.level:
            return False
        self.level, self.reason = level, reason
        return True


def exit_status(stop: Stop, failed: int, undone: bool) -> int:
    """Return the exit status of the whole run.

    Args:
        stop: The state of stopping.
        failed: Number of commands that failed.
        undone: Whether inputs were left without a finished command.
    """
    if stop.reason is StopReason.INTERRUPTED and not undone:
        return min(failed, MAX_FAILED_STATUS)  # Ctrl-C came when everything was under way, and all of it finished
    if stop.reason is not None and stop.reason is not StopReason.HALT:
        return int(stop.reason.value)
    return min(failed, MAX_FAILED_STATUS)
