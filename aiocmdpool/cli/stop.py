"""Why and how hard a run is being stopped, and the exit status that follows. Decisions only.

The level only rises. The first reason wins, except that a signal or a closed output overrules a run that was only
winding down: somebody insisted.
"""

import dataclasses
import enum

MAX_FAILED_STATUS = 101  # "more than 100 failed", as GNU parallel says it
OTHER_ERROR_STATUS = 255  # usage, input and output errors; out of the way of the failure counts


class StopLevel(enum.IntEnum):
    """How far the run has been stopped."""

    RUNNING = 0
    SOON = 1
    """No new commands; those running finish."""
    NOW = 2
    """Those running are ended too."""


class StopReason(enum.Enum):
    """What stopped the run, with the exit status it leads to."""

    HALT = None
    """`--halt`; the failures that led to it are the status."""
    INTERRUPTED = 130
    """Ctrl-C."""
    TERMINATED = 143
    """SIGTERM."""
    OUTPUT_CLOSED = 141
    """Whoever read our standard output left: what a program killed by SIGPIPE shows."""
    NOT_FOUND = 127
    """The program of all commands is not there."""
    NOT_EXECUTABLE = 126
    """It cannot be executed."""
    FAILED = OTHER_ERROR_STATUS
    """Inputs could not be read, or output or job log not be written."""


@dataclasses.dataclass(slots=True)
class Stop:
    """The state of stopping; written by `request` alone."""

    level: StopLevel = StopLevel.RUNNING
    reason: StopReason | None = None

    def request(self, level: StopLevel, reason: StopReason) -> bool:
        """Stop at least this hard; whether that is harder than before."""
        if level <= self.level:
            return False
        self.level, self.reason = level, reason
        return True


def exit_status(stop: Stop, failed: int, undone: bool) -> int:
    """The status of the whole run.

    Args:
        stop: How it was stopped, if it was.
        failed: Commands that failed.
        undone: Whether inputs were left without a finished command.
    """
    if stop.reason is StopReason.INTERRUPTED and not undone:
        return min(failed, MAX_FAILED_STATUS)  # Ctrl-C came when everything was already under way, and it finished
    if stop.reason is not None and stop.reason is not StopReason.HALT:
        return int(stop.reason.value)
    return min(failed, MAX_FAILED_STATUS)
