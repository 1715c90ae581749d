"""Output as it comes, in whole lines: `--line-buffer` and `--tag`."""

import asyncio
import os
from collections.abc import Callable

MAX_LINE = 1024 * 1024  # bytes; a longer line is split rather than held in memory
READ_SIZE = 64 * 1024  # bytes; what a pipe holds
DRAIN_TIMEOUT = 0.2  # seconds after the command's end for what a process it left behind may still hold
LAST_READS = 16  # then: 1 MiB, as much as a pipe can be made to hold


def tag_lines(tag: bytes, lines: bytes) -> bytes:
    """Put the tag before each line; a missing newline at the end is added, or the next tag would stick to it."""
    if not lines:
        return lines
    body = lines.removesuffix(b"\n")
    return tag + body.replace(b"\n", b"\n" + tag) + b"\n"


class LineSplitter:
    """Whole lines out of pieces. Pure."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> bytes:
        """The lines that `data` completes, together; an overlong one is broken in two."""
        end = data.rfind(b"\n") + 1
        if end:
            lines = bytes(self._rest) + data[:end]
            self._rest = bytearray(data[end:])
            return lines
        self._rest += data
        return self.finish() if len(self._rest) >= MAX_LINE else b""

    def finish(self) -> bytes:
        """What is left, made a line."""
        rest, self._rest = bytes(self._rest), bytearray()
        return rest + b"\n" if rest else b""


def open_pipes() -> tuple[tuple[int, int], tuple[int, int]]:
    """Two pipes, or an `OSError` and none."""
    first = os.pipe()
    try:
        return first, os.pipe()
    except OSError:
        for fd in first:
            os.close(fd)
        raise


class LineStream:
    """The reading end of one stream of one command.

    The write end, `write_fd`, belongs to the command: the backend duplicates it for the child. Ours is closed by
    `end`, so that the end of the pipe can be seen.

    Args:
        pipe: Its two ends, as `os.pipe` gives them. Both are closed by the end.
        emit: Takes whole lines, as soon as they are complete.

    Attributes:
        size: Bytes that came.
        is_patient: Wait for a slow reader of ours after the command's end. Set to false where the run is being killed.
    """

    def __init__(self, pipe: tuple[int, int], emit: Callable[[bytes], None]) -> None:
        self.size = 0
        self.is_patient = True
        self._emit = emit
        self._on_closed: Callable[[], None] | None = None
        self._splitter = LineSplitter()
        self._loop = asyncio.get_running_loop()
        self._drain_timer: asyncio.TimerHandle | None = None
        self._read_fd, self._write_fd = pipe
        os.set_blocking(self._read_fd, False)
        self._paused = False
        self._closed = False
        self._loop.add_reader(self._read_fd, self._read)

    @property
    def write_fd(self) -> int:
        return self._write_fd

    def pause(self) -> None:
        """Read no more for now: the pipe fills, and the command waits."""
        if not self._paused and not self._closed:
            self._paused = True
            self._loop.remove_reader(self._read_fd)

    def resume(self) -> None:
        """Read on."""
        if self._paused and not self._closed:
            self._paused = False
            self._loop.add_reader(self._read_fd, self._read)

    def end(self, on_closed: Callable[[], None]) -> None:
        """The command has ended: take what is in the pipe, and do not wait long for who else holds it.

        Args:
            on_closed: Told once, later, when nothing more comes.
        """
        self._on_closed = on_closed
        os.close(self._write_fd)
        self._drain_timer = self._loop.call_later(DRAIN_TIMEOUT, self._give_up)

    def _give_up(self) -> None:
        if self._paused and self.is_patient:  # it is our reader who is slow, so the time does not count
            self._drain_timer = self._loop.call_later(DRAIN_TIMEOUT, self._give_up)
            return
        for _ in range(LAST_READS):
            if self._closed or not self._read():
                break
        if not self._closed:
            self._close()

    def _read(self) -> bool:
        """Take one piece; whether there may be more."""
        try:
            data = os.read(self._read_fd, READ_SIZE)
        except BlockingIOError:
            return False
        self.size += len(data)
        if data:
            self._emit(self._splitter.feed(data))
        else:
            self._close()
        return bool(data)

    def _close(self) -> None:
        self._closed = True
        if self._drain_timer is not None:
            self._drain_timer.cancel()
        if not self._paused:
            self._loop.remove_reader(self._read_fd)
        os.close(self._read_fd)
        self._emit(self._splitter.finish())
        assert self._on_closed is not None  # our own write end keeps the pipe open until `end`
        self._on_closed()
