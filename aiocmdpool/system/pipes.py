"""The parent's ends of a command's pipes on the loop: output is read into a `Capture`, stdin is fed.

Written on `loop.add_reader` and `os.read` rather than on transports: nothing to close later, nothing that outlives
the loop (cpython#114177), the limit is applied to each chunk as it comes, and asyncio and uvloop behave alike.
"""

import errno
import os
from collections.abc import Callable, Iterable

from aiocmdpool.loops.loop import Loop
from aiocmdpool.system.capture import Capture
from aiocmdpool.system.fork import keep_from_forks

CHUNK = 65536  # bytes; the default capacity of a Linux pipe (pipe(7))


class PipeReader:
    """Reads one pipe into a capture until its end; then closes it and calls `on_end`, once."""

    __slots__ = ("__weakref__", "_close", "_fd", "_loop", "_on_data", "_on_end", "_on_limit", "capture")

    def __init__(
        self,
        loop: Loop,
        fd: int,
        capture: Capture,
        *,
        on_data: Callable[[], None],
        on_limit: Callable[[], None],
        on_end: Callable[[], None],
        close: Callable[[int], None] = os.close,
    ) -> None:
        self._loop = loop
        self._close = close
        self._fd = fd
        self.capture = capture
        self._on_data = on_data
        self._on_limit = on_limit
        self._on_end = on_end
        loop.add_reader(fd, self._read)
        keep_from_forks(self)

    def held(self) -> Iterable[int]:
        """Return the descriptors to close in forked children, for `keep_from_forks`."""
        return (self._fd,)

    def move(self, loop: Loop) -> None:
        """Read on another event loop from here on."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            loop.add_reader(self._fd, self._read)
        self._loop = loop

    def read_rest(self) -> None:
        """Read what is in the pipe now: the writer is gone, and the loop may not have read all of it."""
        while self._fd >= 0 and self._read():
            pass

    def _read(self) -> bool:
        """Read once; return whether there may be more."""
        try:
            data = os.read(self._fd, CHUNK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""  # a terminal reports its end as EIO
        if not data:
            self.close()
            return False
        self._on_data()
        if not self.capture.add(data):
            self._on_limit()
        return True

    def close(self) -> None:
        """Stop reading and close the pipe. Harmless when repeated."""
        if self._fd < 0:
            return
        self._loop.remove_reader(self._fd)
        self._close(self._fd)
        self._fd = -1
        self._on_end()

    @property
    def fd(self) -> int:
        """Return the descriptor, or -1 after the end."""
        return self._fd


class PipeFeeder:
    """Writes bytes into a pipe as fast as it takes them, then closes it. A reader that closes early is no error."""

    __slots__ = ("__weakref__", "_fd", "_left", "_loop", "_watching")

    def __init__(self, loop: Loop, fd: int, data: bytes) -> None:
        self._loop = loop
        self._fd = fd
        self._left = memoryview(data)
        # Write what fits into the pipe now, before the program starts; most input needs no wake-up at all.
        self._watching = False
        self._write()
        if self._fd >= 0:
            self._watching = True
            loop.add_writer(fd, self._write)
            keep_from_forks(self)

    def held(self) -> Iterable[int]:
        """Return the descriptors to close in forked children, for `keep_from_forks`."""
        return (self._fd,)

    def _write(self) -> None:
        try:
            while self._left:
                self._left = self._left[os.write(self._fd, self._left) :]
        except (BlockingIOError, InterruptedError):
            return
        except BrokenPipeError:
            pass  # the program has closed its stdin or exited: it has read what it wanted
        self.close()

    def close(self) -> None:
        """Stop feeding and close the pipe. Harmless when repeated."""
        if self._fd < 0:
            return
        if self._watching:
            self._loop.remove_writer(self._fd)
        os.close(self._fd)
        self._fd = -1
        self._left = memoryview(b"")
