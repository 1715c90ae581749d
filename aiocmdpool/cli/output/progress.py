"""The progress bar: drawn by rich, written by `Output`. Rich is only imported when the first frame is due."""

import asyncio
import dataclasses
import importlib.util
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiocmdpool.cli.output.last_line import LastLine
from aiocmdpool.cli.output.writer import STDERR, STDOUT, Output
from aiocmdpool.cli.summary import duration

if TYPE_CHECKING:
    from rich.console import Console

FRAME_INTERVAL = 0.2  # seconds between frames, and before the first one
BAR_WIDTH = 30  # columns


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """The numbers that the progress bar shows, at one moment."""

    finished: int
    failed: int
    skipped: int
    running: int
    total: int | None
    """Estimated number of all inputs; `None` without an estimate."""
    elapsed: float
    """Seconds since the start of the run."""

    @property
    def rate(self) -> float:
        """Return the commands per second so far."""
        return self.finished / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def eta(self) -> float | None:
        """Return the estimated seconds to go; `None` without a total, or before anything has finished."""
        if self.total is None or not self.rate:
            return None
        return max(0, self.total - self.skipped - self.finished) / self.rate


def progress_text(snapshot: Snapshot) -> str:
    """Return the text beside the bar."""
    done = snapshot.finished + snapshot.skipped
    count = f"{done}/{max(done, snapshot.total)}" if snapshot.total is not None else f"{done}"
    eta = f", ETA {duration(snapshot.eta)}" if snapshot.eta is not None else ""
    failed = f", {snapshot.failed} failed" if snapshot.failed else ""
    return f"{count} {snapshot.rate:.1f}/s{eta}{failed}, {snapshot.running} running"


def can_show_bar(*, asked: bool, shared: bool) -> bool:
    """Return whether a bar can be shown: with rich, on a terminal that can erase a line and nobody else writes to.

    Args:
        asked: Whether the user wants a bar even if others write to the terminal.
        shared: Whether inputs are typed there. A program that reads our standard output may write there, too.
    """
    erases = os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")
    return os.isatty(STDERR) and erases and (asked or not (shared or _leads_elsewhere(STDOUT))) and has_rich()


def _leads_elsewhere(fd: int) -> bool:
    """Return whether a descriptor leads to another program, which may write to the terminal itself."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def in_foreground() -> bool:
    """Return whether this process is in the foreground, so that no shell or other job writes to the terminal now."""
    try:
        return os.tcgetpgrp(STDERR) == os.getpgrp()
    except OSError:  # the terminal of another session
        return False


def has_rich() -> bool:
    """Return whether rich, of the extra `aiocmdpool[cli]`, is installed, without importing it."""
    return importlib.util.find_spec("rich") is not None


class ProgressBar:
    """Draws a frame of the bar at intervals, until it is closed.

    Args:
        output: The writer of the frames, between the output of commands.
        look: Function that returns the present progress.
    """

    def __init__(self, output: Output, look: Callable[[], Snapshot]) -> None:
        self._output = output
        self._look = look
        self._console: Console | None = None
        self._timer = asyncio.get_running_loop().call_later(FRAME_INTERVAL, self._next_frame)
        output.last_line = LastLine()

    def close(self) -> None:
        """Remove the bar from the terminal."""
        self._timer.cancel()
        self._output.wipe()

    def _next_frame(self) -> None:
        if in_foreground():
            self._output.draw(self._frame(self._look()))
        self._timer = asyncio.get_running_loop().call_later(FRAME_INTERVAL, self._next_frame)

    def _frame(self, snapshot: Snapshot) -> bytes:
        from rich.console import Console
        from rich.progress_bar import ProgressBar as Bar
        from rich.table import Table
        from rich.text import Text

        if self._console is None:
            self._console = Console(stderr=True, force_terminal=True)
        console = self._console
        row = Table.grid(padding=(0, 1))
        row.add_column(width=min(BAR_WIDTH, console.width // 3))
        row.add_column(no_wrap=True)
        done, total = snapshot.finished + snapshot.skipped, snapshot.total
        bar = Bar(
            total=max(total, done, 1) if total is not None else None,
            completed=done,
            pulse=total is None,
            animation_time=snapshot.elapsed,
        )
        row.add_row(bar, Text(progress_text(snapshot), overflow="ellipsis"))
        with console.capture() as capture:
            console.print(row, end="", width=console.width - 1)
        return capture.get().rstrip("\n").encode(console.encoding, "replace")
