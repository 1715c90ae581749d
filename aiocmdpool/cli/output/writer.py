"""Everything the run writes goes through here, in one order: output of commands, our own messages, the job log.

The queue is what keeps pieces whole and what makes the job log honest: the record of a command stands behind its
output, so it is written only when that has been written. Nothing blocks the loop, and nothing makes a descriptor
non-blocking that others share: pipes and terminals are written in small pieces, when there is room for them.
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
from aiocmdpool.cli.readiness import Readiness, settle

if TYPE_CHECKING:
    from aiocmdpool.cli.output.last_line import LastLine

STDOUT, STDERR = 1, 2
HIGH_WATER = 4 * 1024 * 1024  # bytes waiting for a slow reader; above it, no new commands
LOW_WATER = HIGH_WATER // 4
PIPE_PIECE = 4096  # bytes; a pipe that polls writable has room for a page, and a write of it does not block
FILE_PIECE = 1024 * 1024  # bytes; to files, between two looks at the loop
TURN = 256 * 1024  # bytes written to pipes before the loop gets its turn


class Output:
    """Writes bytes to descriptors in the order given, without blocking.

    Args:
        on_error: Told once when standard output or the job log cannot be written any more. From then on only standard
            error is served: what is recorded as done must have been delivered. A standard error that is gone is
            nobody's loss.
    """

    def __init__(self, on_error: Callable[[int, OSError], None]) -> None:
        self.last_line: LastLine | None = None
        self.pending = 0
        self._on_error = on_error
        self._queue: deque[_Entry] = deque()
        self._sinks: dict[int, _Sink] = {}
        self._broken: set[int] = set()
        self._busy = False  # pumping, or waiting for a turn at it
        self._when_low: list[Callable[[], object]] = []
        self._when_empty: list[Callable[[], object]] = []

    def write(self, fd: int, data: bytes | Spool) -> None:
        """Queue bytes for a descriptor; written at once where nothing is ahead of them. A spool is closed then."""
        line = self._shared_line(fd)
        if isinstance(data, Spool) and data.is_file:
            self._enqueue(fd, b"" if line is None else line.before())
            self._enqueue(fd, data)
            self._enqueue(fd, b"" if line is None else line.after(ends_line=data.ends_line))
            return
        small = b"".join(data.pieces()) if isinstance(data, Spool) else data
        self._enqueue(fd, line.pass_through(small) if line is not None and small else small)

    def interject(self, message: bytes) -> None:
        """Say something on standard error now, even while a reader of standard output keeps the queue waiting.

        Where both are one file, it still does not fall into the middle of a piece.
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
        """Take the progress bar away for good."""
        if self.last_line is not None:
            self._enqueue(STDERR, self.last_line.draw(b""))
            self.last_line = None

    def _shared_line(self, fd: int) -> "LastLine | None":
        """The last line of the terminal, where what goes to a descriptor has to share that with a progress bar."""
        return self.last_line if self.last_line is not None and self._sink(fd).is_terminal else None

    @property
    def is_congested(self) -> bool:
        """Whether a reader is so slow that no more output should be made."""
        return self.pending > HIGH_WATER

    def when_low(self, callback: Callable[[], object]) -> None:
        """Call back, once, when there is room again."""
        self._when_low.append(callback)

    async def flush(self) -> None:
        """Wait until everything is written, or given up."""
        if self._queue:
            empty = asyncio.get_running_loop().create_future()
            self._when_empty.append(functools.partial(settle, empty))
            await empty

    def close(self) -> None:
        """Forget what is still waiting; the descriptors stay open."""
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
        """Write until the queue is empty, a reader is slow, or the loop should have its turn."""
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
        except BlockingIOError:  # non-blocking by somebody else's doing, and full
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
        """The first of the queue is written, or given up."""
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
    """One piece in the queue. A spool is read as it is written, so it takes no more memory than a part of it."""

    __slots__ = ("_data", "_rest", "_spool", "fd", "is_begun", "left")

    def __init__(self, fd: int, data: bytes | Spool) -> None:
        self.fd = fd
        self.is_begun = False
        """Whether some of it is written."""
        self._spool = data if isinstance(data, Spool) else None
        self._rest = self._spool.pieces() if self._spool is not None else iter(())
        self._data = memoryview(b"" if isinstance(data, Spool) else data)
        self.left = data.size if isinstance(data, Spool) else len(data)
        """Bytes that are not written yet."""

    def next_bytes(self) -> memoryview:
        """Return some of what is left.

        Raises:
            OSError: It cannot be read back.
        """
        if not self._data:
            self._data = memoryview(next(self._rest))
        return self._data

    def advance(self, count: int) -> None:
        """So many bytes are written."""
        self._data = self._data[count:]
        self.left -= count
        self.is_begun = self.is_begun or count > 0

    def close(self) -> None:
        """Let go of the spool."""
        if self._spool is not None:
            self._spool.close()


def _is_same_file(one: int, other: int) -> bool:
    try:
        return os.path.samestat(os.fstat(one), os.fstat(other))
    except OSError:
        return False


class _Sink:
    """One descriptor: what it is, and how to tell that a write would not block."""

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
            if error.errno not in (errno.EPERM, errno.EBADF):  # a device that never blocks; closed: the write will tell
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
