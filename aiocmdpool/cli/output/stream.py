"""The pipe between one stream of one command and its output."""

import asyncio
import os
from collections.abc import Callable

from aiocmdpool.cli.output.lines import Shape
from aiocmdpool.cli.output.spool import Spool

READ_SIZE = 64 * 1024  # bytes; what a pipe holds
DRAIN_TIMEOUT = 0.2  # seconds after the command's end for what a process it left behind may still hold
LAST_READS = 16  # then: 1 MiB, as much as a pipe can be made to hold


class TooMuchOutput(Exception):
    """A stream brought more than it may."""


def open_pipes() -> tuple[tuple[int, int], tuple[int, int]]:
    """Two pipes, or an `OSError` and none."""
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
        pipe: Its two ends, as `os.pipe` gives them. Both are closed by the end.
        shape: What becomes of the bytes.
        emit: Takes what the shape gives.
        limit: Bytes that are taken; `None` for any number.
        on_fault: Told once, of `TooMuchOutput` or of the `OSError` for which bytes cannot be kept. What comes from then
            on is read and dropped, so that the command does not wait.

    Attributes:
        write_fd: The write end; -1 once it is closed.
        size: Bytes that came and were taken.
        is_patient: Wait for a slow reader of ours after the command's end. Set to false where the run is being killed.
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
        """The program has its own, or will never have one. Harmless when repeated."""
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    def pause(self) -> None:
        """Read no more for now: the pipe fills, and the command waits."""
        self._paused = True
        self._unwatch()

    def resume(self) -> None:
        """Read as it comes, from now on or again. What is over before that is read at its end."""
        self._paused = False
        if not self._watched and not self._closed:
            self._watched = True
            self._loop.add_reader(self._read_fd, self._read)

    def end(self, on_closed: Callable[[], None]) -> None:
        """The command has ended: take what is in the pipe, and do not wait long for who else holds it.

        Args:
            on_closed: Told once, maybe at once, when nothing more comes.
        """
        self._on_closed = on_closed
        self.close_write_end()
        if self._closed:
            on_closed()
            return
        if not self._paused and self._read_all():
            return
        if not self._paused:
            self.resume()  # it may not have been watched yet
        self._drain_timer = self._loop.call_later(DRAIN_TIMEOUT, self._give_up)

    def _give_up(self) -> None:
        if self._paused and self.is_patient:  # it is our reader who is slow, so the time does not count
            self._drain_timer = self._loop.call_later(DRAIN_TIMEOUT, self._give_up)
            return
        if not self._read_all():
            self._close()

    def _read_all(self) -> bool:
        """Take what a pipe can hold; whether that was all."""
        for _ in range(LAST_READS):
            if not self._read() or (self._paused and self.is_patient):
                break
        return self._closed

    def _read(self) -> bool:
        """Take one piece; whether there may be more."""
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
        room = len(data) if self._limit is None else self._limit - self.size
        try:
            for piece in self._shape.feed(data[:room]):
                self._emit(piece)
        except OSError as error:
            self._fail(error)
            return
        self.size += min(room, len(data))
        if len(data) > room:
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
