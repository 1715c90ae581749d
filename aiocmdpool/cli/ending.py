"""`Ending`: why this program ends a command itself, for its deadline or its output; and `Deadlines`."""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from aiocmdpool.cli.messages import size_text
from aiocmdpool.cli.output.spool import directory
from aiocmdpool.cli.output.stream import TooMuchOutput
from aiocmdpool.commands.result import EndReason

if TYPE_CHECKING:
    from aiocmdpool.cli.job import Job


class Ending(NamedTuple):
    """The reason why an attempt is ended."""

    reason: EndReason
    text: str
    """Text for people that follows the command."""


def timeout_ending(seconds: float) -> Ending:
    """Return the ending of a command that ran longer than `--timeout`, in seconds."""
    return Ending(EndReason.TIMEOUT, f"ran longer than its --timeout of {seconds:g} s")


def fault_ending(fault: Exception, limit: int | None) -> Ending:
    """Return the ending of a command whose output is too large, or cannot be kept.

    Args:
        fault: `TooMuchOutput`, or the `OSError` for which output cannot be kept.
        limit: Bytes of `--max-output`; `None` for no limit.
    """
    if isinstance(fault, TooMuchOutput):
        size = size_text(limit or 0)
        return Ending(EndReason.OUTPUT_LIMIT, f"wrote more than its --max-output of {size}; give it more, or none")
    why = fault.strerror if isinstance(fault, OSError) else str(fault)
    text = f"its output cannot be kept in {directory()}: {why}; make room there, or set TMPDIR to another directory"
    return Ending(EndReason.CANCELLED, text)


class Deadlines:
    """Deadlines of running commands. They are not left to the pool, so that they can be paused while all is stopped.

    Args:
        seconds: Seconds from each start; `None` for no deadlines.
        on_passed: Called with each job whose deadline has passed.
    """

    def __init__(self, seconds: float | None, on_passed: "Callable[[Job], None]") -> None:
        self.seconds = seconds
        self._on_passed = on_passed
        self._timers: dict[Job, tuple[asyncio.TimerHandle, float]] = {}

    def begin(self, job: "Job", seconds: float | None = None) -> None:
        """Start the deadline of `job`, `seconds` from now."""
        left = self.seconds if seconds is None else seconds
        if left is not None:
            timer = asyncio.get_running_loop().call_later(left, self._pass, job)
            self._timers[job] = timer, time.monotonic() + left

    def end(self, job: "Job") -> None:
        """Forget the deadline of `job`, if there is one."""
        if self._timers and (entry := self._timers.pop(job, None)) is not None:
            entry[0].cancel()

    def hold(self) -> Callable[[], None]:
        """Pause all deadlines; return a function that lets them continue."""
        now = time.monotonic()
        left = {job: max(0.0, due - now) for job, (_, due) in self._timers.items()}
        for job in left:
            self.end(job)

        def go_on() -> None:
            for job, seconds in left.items():
                self.begin(job, seconds)

        return go_on

    def _pass(self, job: "Job") -> None:
        del self._timers[job]
        self._on_passed(job)
