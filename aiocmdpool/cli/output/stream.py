"""`OutputStream`: reads the pipe of one stream of one command."""

import asyncio
import os
from collections.abc import Callable

from aiocmdpool.cli.output.lines import Shape
from aiocmdpool.cli.output.spool import Spool

READ_SIZE = 64 * 1024  # bytes per read, the capacity of a pipe
DRAIN_TIMEOUT = 0.2  # seconds after the command's end, if a process that it left holds the pipe
LAST_READS = 16  # reads after that: 1 MiB, the largest possible pipe


class TooMuchOutput(Exception):
    """A stream has exceeded its limit."""


def open_pipes() -> tuple[tuple[int, int], tuple[int, int]]:
    """Return two pipes; raises `OSError` and leaves nothing open if there are not enough descriptors."""
    first = os.pipe()
    try:
        return first, os.pipe()
    except OSError:
        for fd in first:
            os.close(fd)
        raise


class OutputStream:
    """The reading end of one stream of one command.

    The write end, `write_fd`, belongs to the command: the backend duplicates it for the child. Ours is closed by
    `end` at the latest, so that the end of the pipe can be seen. Nothing is read before `resume` or `end`.

    Args:
        pipe: Its two ends, as from `os.pipe`. Both are closed by the end.
        shape: The shape of the output: whole, or lines.
        emit: Called with output that may be written.
        limit: Most bytes to take; `None` for no limit.
        on_fault: Called once, with `TooMuchOutput` or with the `OSError` for which bytes cannot be kept. Later bytes
            are read and dropped, so that the command does not wait.

    Attributes:
        write_fd: The write end; -1 once it is closed.
        size: Number of bytes that were taken.
        is_patient: Whether to wait for a slow reader after the command's end; false while the run is being killed.
    """

    def __init__(
        self,
        pipe: tuple[int, int],
        shape: Shape,
        emit: Callable[[Spool], None],
        on_fault: Callable[[Exception], None],
        limit: int | None = None,
    ) -> None:
        self.size = 0
        self.is_patient = True
        self._shape = shape
        self._emit = emit
        self._on_fault = on_fault
        self._limit = limit
        self._is_faulty = False
        self._on_closed: Callable[[], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._drain_timer: asyncio.TimerHandle | None = None
        self._read_fd, self.write_fd = pipe
        os.set_blocking(self._read_fd, False)
        self._paused = False
        self._watched = False
        self._closed = False

    def close_write_end(self) -> None:
        """Close our copy of the write end, which the program has now, or will never have. Harmless when repeated."""
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    def pause(self) -> None:
        """Stop reading for now: the pipe fills, and the command waits."""
        self._paused = True
        self._unwatch()

    def resume(self) -> None:
        """Read output as it comes, from now on. Without this call, all of it is read at the end."""
        self._paused = False
        if not self._watched and not self._closed:
            self._watched = True
            self._loop.add_reader(self._read_fd, self._read)

    def end(self, on_closed: Callable[[], None]) -> None:
        """Read the rest after the command's end, without waiting long for other holders of the pipe.

        Args:
            on_closed: Called once, maybe at once, when nothing more comes.
        """
        self._on_closed = on_closed
        self.close_write_end()
        if self._closed:
            on_closed()
            return
        if not self._paused and self._read_all():
            return
        if not self._paused:
            self.resume()  # it may not have been watched before
        self._drain_timer = self._loop.call_later(DRAIN_TIMEOUT, self._give_up)

    def _give_up(self) -> None:
        if self._paused and self.is_patient:  # our reader is slow, so this time does not count
            self._drain_timer = self._loop.call_later(DRAIN_TIMEOUT, self._give_up)
            return
        if not self._read_all():
            self._close()

    def _read_all(self) -> bool:
        """Read as much as a pipe can hold; return whether that was all."""
        for _ in range(LAST_READS):
            if not self._read() or (self._paused and self.is_patient):
                break
        return self._closed

    def _read(self) -> bool:
        """Read one piece; return whether there may be more."""
        try:
            data = os.read(self._read_fd, READ_SIZE)
        except BlockingIOError:
            return False
        if data:
            self._take(data)
        else:
            self._close()
        return bool(data)

    def _take(self, data: bytes) -> None:
        if self._is_faulty:
            return
        left = len(data) if self._limit is None else self._limit - self.size
        try:
            for piece in self._shape.feed(data[:left]):
                self._emit(piece)
        except OSError as error:
            self._fail(error)
            return
        self.size += min(left, len(data))
        if len(data) > left:
            self._fail(TooMuchOutput())

    def _close(self) -> None:
        self._closed = True
        if self._drain_timer is not None:
            self._drain_timer.cancel()
        self._unwatch()
        os.close(self._read_fd)
        try:
            for piece in self._shape.finish():
                self._emit(piece)
        except OSError as error:
            self._fail(error)
        if self._on_closed is not None:  # a program may close its streams long before its end
            self._on_closed()

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._loop.remove_reader(self._read_fd)

    def _fail(self, fault: Exception) -> None:
        if not self._is_faulty:
            self._is_faulty = True
            self._on_fault(fault)
