"""The progress bar: rich draws it, `Output` writes it. Rich is imported when the first frame is due, not before."""

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

FRAME_INTERVAL = 0.2  # seconds; also how long a run goes without a bar
BAR_WIDTH = 30  # columns


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """How far the run is."""

    finished: int
    failed: int
    skipped: int
    running: int
    total: int | None
    """Inputs altogether, as far as one can tell."""
    elapsed: float
    """Seconds."""

    @property
    def rate(self) -> float:
        """Commands a second so far."""
        return self.finished / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds to go, if the total is known and anything has finished."""
        if self.total is None or not self.rate:
            return None
        return max(0, self.total - self.skipped - self.finished) / self.rate


def progress_text(snapshot: Snapshot) -> str:
    """The words beside the bar."""
    done = snapshot.finished + snapshot.skipped
    count = f"{done}/{max(done, snapshot.total)}" if snapshot.total is not None else f"{done}"
    eta = f", ETA {duration(snapshot.eta)}" if snapshot.eta is not None else ""
    failed = f", {snapshot.failed} failed" if snapshot.failed else ""
    return f"{count} {snapshot.rate:.1f}/s{eta}{failed}, {snapshot.running} running"


def can_show_bar(*, asked: bool, shared: bool) -> bool:
    """Whether rich is installed and standard error is a terminal that can erase a line, and that nobody else writes.

    Args:
        asked: Whether somebody wants it even if others write there.
        shared: Whether inputs are typed there. A program that reads our standard output may well write there, too.
    """
    erases = os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")
    return os.isatty(STDERR) and erases and (asked or not (shared or _leads_elsewhere(STDOUT))) and has_rich()


def _leads_elsewhere(fd: int) -> bool:
    """Whether somebody reads what is written there."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def in_foreground() -> bool:
    """Whether the terminal is ours now: no shell, and no other job of one, writes its own lines there."""
    try:
        return os.tcgetpgrp(STDERR) == os.getpgrp()
    except OSError:  # somebody else's terminal
        return False


def has_rich() -> bool:
    """Whether the extra `aiocmdpool[cli]` is installed; looks, and imports nothing."""
    return importlib.util.find_spec("rich") is not None


class ProgressBar:
    """Draws a frame now and then until it is taken away.

    Args:
        output: Where the frames go, between the output of the commands.
        look: Tells how far the run is.
    """

    def __init__(self, output: Output, look: Callable[[], Snapshot]) -> None:
        self._output = output
        self._look = look
        self._console: Console | None = None
        self._timer = asyncio.get_running_loop().call_later(FRAME_INTERVAL, self._next_frame)
        output.last_line = LastLine()

    def close(self) -> None:
        """Take the bar off the terminal."""
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
