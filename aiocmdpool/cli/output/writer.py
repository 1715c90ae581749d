"""`Output`: writes everything of a run, in one order: output of commands, our own messages, the job log.

The queue keeps pieces whole and the job log honest: the record of a command comes after its output, so it is written
only when that has been written. Nothing blocks the loop, and no shared descriptor is made non-blocking: pipes and
terminals are written in small pieces, when there is room for them.
"""

import asyncio
import errno
import functools
import os
import stat
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiocmdpool.cli.output.spool import Spool
from aiocmdpool.cli.readiness import Readiness, resolve

if TYPE_CHECKING:
    from aiocmdpool.cli.output.last_line import LastLine

STDOUT, STDERR = 1, 2
HIGH_WATER = 4 * 1024 * 1024  # bytes waiting for a slow reader, above which no new commands start
LOW_WATER = HIGH_WATER // 4
PIPE_PIECE = 4096  # bytes; a pipe that polls writable has room for a page, and a write of it does not block
FILE_PIECE = 1024 * 1024  # bytes written to a file before yielding to the loop
TURN = 256 * 1024  # bytes written to pipes before yielding to the loop


class Output:
    """Writes bytes to descriptors in the order given, without blocking.

    Args:
        on_error: Called once when standard output or the job log cannot be written any more. From then on only standard
            error is written: output that is recorded as done must have been delivered. Failures of standard error are
            ignored.
    """

    def __init__(self, on_error: Callable[[int, OSError], None]) -> None:
        self.last_line: LastLine | None = None
        self.pending = 0
        self._on_error = on_error
        self._queue: deque[_Entry] = deque()
        self._sinks: dict[int, _Sink] = {}
        self._broken: set[int] = set()
        self._busy = False  # writing, or scheduled to write
        self._when_low: list[Callable[[], object]] = []
        self._when_empty: list[Callable[[], object]] = []

    def write(self, fd: int, data: bytes | Spool) -> None:
        """Queue bytes for `fd`; they are written at once if nothing is ahead of them. A spool is closed after that."""
        line = self._shared_line(fd)
        if isinstance(data, Spool) and data.is_file:
            self._enqueue(fd, b"" if line is None else line.before())
            self._enqueue(fd, data)
            self._enqueue(fd, b"" if line is None else line.after(ends_line=data.ends_line))
            return
        small = b"".join(data.pieces()) if isinstance(data, Spool) else data
        self._enqueue(fd, line.pass_through(small) if line is not None and small else small)

    def interject(self, message: bytes) -> None:
        """Write a message to standard error now, even while a slow reader of standard output blocks the queue.

        If both are one file, it still does not interrupt a piece of output.
        """
        inside = bool(self._queue) and self._queue[0].is_begun and _is_same_file(self._queue[0].fd, STDERR)
        line = self._shared_line(STDERR)
        if line is not None:
            message = line.pass_through(message)
        self._queue.insert(1 if inside else 0, _Entry(STDERR, message))
        self.pending += len(message)
        self._pump()

    def draw(self, frame: bytes) -> None:
        """Show a frame of the progress bar, unless output is waiting: the next frame will do."""
        if self.last_line is not None and not self._queue:
            self._enqueue(STDERR, self.last_line.draw(frame))

    def wipe(self) -> None:
        """Remove the progress bar for good."""
        if self.last_line is not None:
            self._enqueue(STDERR, self.last_line.draw(b""))
            self.last_line = None

    def _shared_line(self, fd: int) -> "LastLine | None":
        """Return the last line of the terminal if `fd` is a terminal with a progress bar; `None` otherwise."""
        return self.last_line if self.last_line is not None and self._sink(fd).is_terminal else None

    @property
    def is_congested(self) -> bool:
        """Return whether a reader is so slow that no more output should be produced."""
        return self.pending > HIGH_WATER

    def when_low(self, callback: Callable[[], object]) -> None:
        """Call `callback`, once, when there is room again."""
        self._when_low.append(callback)

    async def flush(self) -> None:
        """Wait until everything is written, or dropped after an error."""
        if self._queue:
            empty = asyncio.get_running_loop().create_future()
            self._when_empty.append(functools.partial(resolve, empty))
            await empty

    def close(self) -> None:
        """Drop output that still waits; the descriptors stay open."""
        for entry in self._queue:
            entry.close()
        self._queue.clear()
        for sink in self._sinks.values():
            sink.close()
        self._sinks.clear()

    def _is_broken(self, fd: int) -> bool:
        return fd in self._broken or (fd != STDERR and bool(self._broken - {STDERR}))

    def _sink(self, fd: int) -> "_Sink":
        sink = self._sinks.get(fd)
        if sink is None:
            sink = self._sinks[fd] = _Sink(fd)
        return sink

    def _enqueue(self, fd: int, data: bytes | Spool) -> None:
        entry = _Entry(fd, data)
        if not entry.left or self._is_broken(fd):
            entry.close()
            return
        self._queue.append(entry)
        self.pending += entry.left
        if not self._busy:
            self._pump()

    def _pump(self) -> None:
        """Write until the queue is empty, a reader is slow, or it is time to yield to the loop."""
        self._busy = True
        written = 0
        while self._queue:
            entry = self._queue[0]
            if self._is_broken(entry.fd):
                self._done(entry)
                continue
            sink = self._sink(entry.fd)
            if not sink.is_ready():
                sink.call_when_ready(self._pump)
                break
            if written >= TURN:
                asyncio.get_running_loop().call_soon(self._pump)
                break
            count = self._write_some(sink, entry)
            written += count if sink.piece == PIPE_PIECE else TURN * (count == FILE_PIECE)
        self._busy = False
        self._notify()

    def _write_some(self, sink: "_Sink", entry: "_Entry") -> int:
        try:
            count = os.write(sink.fd, entry.next_bytes()[: sink.piece])
        except BlockingIOError:  # another process made it non-blocking, and it is full
            return 0
        except OSError as error:
            first = not self._broken - {STDERR}
            self._broken.add(sink.fd)
            if sink.fd != STDERR and first:
                self._on_error(sink.fd, error)
            return 0
        entry.advance(count)
        self.pending -= count
        if not entry.left:
            self._done(entry)
        return count

    def _done(self, entry: "_Entry") -> None:
        """Remove the first entry of the queue, which is written or dropped."""
        self.pending -= entry.left
        entry.close()
        self._queue.popleft()

    def _notify(self) -> None:
        if self._when_low and self.pending <= LOW_WATER:
            callbacks, self._when_low = self._when_low, []
            for callback in callbacks:
                callback()
        if self._when_empty and not self._queue:
            callbacks, self._when_empty = self._when_empty, []
            for callback in callbacks:
                callback()


class _Entry:
    """One piece in the queue. A spool is read while it is written, so only a part of it is in memory."""

    __slots__ = ("_data", "_rest", "_spool", "fd", "is_begun", "left")

    def __init__(self, fd: int, data: bytes | Spool) -> None:
        self.fd = fd
        self.is_begun = False
        """Whether some of it has been written."""
        self._spool = data if isinstance(data, Spool) else None
        self._rest = self._spool.pieces() if self._spool is not None else iter(())
        self._data = memoryview(b"" if isinstance(data, Spool) else data)
        self.left = data.size if isinstance(data, Spool) else len(data)
        """Number of bytes that are not written yet."""

    def next_bytes(self) -> memoryview:
        """Return some of the bytes that are left.

        Raises:
            OSError: The spool cannot be read.
        """
        if not self._data:
            self._data = memoryview(next(self._rest))
        return self._data

    def advance(self, count: int) -> None:
        """Note that `count` bytes have been written."""
        self._data = self._data[count:]
        self.left -= count
        self.is_begun = self.is_begun or count > 0

    def close(self) -> None:
        """Close the spool, if there is one."""
        if self._spool is not None:
            self._spool.close()


def _is_same_file(one: int, other: int) -> bool:
    try:
        return os.path.samestat(os.fstat(one), os.fstat(other))
    except OSError:
        return False


class _Sink:
    """One descriptor to write to: its kind, and whether a write would block."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.is_terminal = False
        self.piece = FILE_PIECE
        self._readiness: Readiness | None = None
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                return
            self._readiness = Readiness(fd, to_write=True)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EBADF):  # a device that never blocks, or a closed descriptor
                raise
            return
        self.is_terminal = os.isatty(fd)
        self.piece = PIPE_PIECE

    def is_ready(self) -> bool:
        return self._readiness is None or self._readiness.now()

    def call_when_ready(self, callback: Callable[[], object]) -> None:
        assert self._readiness is not None  # others are always ready
        self._readiness.call_once(callback)

    def close(self) -> None:
        if self._readiness is not None:
            self._readiness.close()
