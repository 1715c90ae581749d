"""One captured stream of a command, on the worker's side.

Small output is kept in memory and rides in the reply. Past `INLINE` bytes it goes to a memory file whose descriptor is
handed over to the parent in the end; splice(2) moves it there from the pipe without passing through this process.
"""

import errno
import fcntl
import os
import sys

from ..wire.messages import FAIL, KEEP_TAIL

INLINE = 65536  # bytes
CHUNK = 65536  # bytes read at once: what a pipe holds by default (pipe(7))
LARGE_PIPE = 1024 * 1024  # bytes: what an unprivileged process may ask for (/proc/sys/fs/pipe-max-size)
SPLICE = hasattr(os, "splice")
F_SETPIPE_SZ = 1031  # fcntl(2); the name is in Python's fcntl module from 3.10 on, on Linux only


class Output:
    """Reads a pipe until its end, under a limit.

    Attributes:
        fd: The read end; -1 once it is closed.
        ended: Whether nothing more will come.
        truncated: Whether the limit cut something.
        exceeded: Whether the limit was passed and the policy is to fail.
        error: The errno with which the spool failed, or 0.
        spool: The memory file, or -1.
    """

    __slots__ = (
        "_chunks",
        "_limit",
        "_size",
        "_tail",
        "ended",
        "error",
        "exceeded",
        "fails",
        "fd",
        "spool",
        "truncated",
    )

    def __init__(self, fd: int, limit: int, policy: int) -> None:
        self.fd = fd
        self.fails = policy == FAIL
        self._limit = limit if limit >= 0 else sys.maxsize
        self._chunks: list[bytes] = []
        self._tail = bytearray() if policy == KEEP_TAIL and limit >= 0 else None
        self._size = 0  # bytes kept, in memory or in the spool
        self.truncated = self.exceeded = self.ended = False
        self.error = 0
        self.spool = -1

    def read(self, drain: bool = False) -> bool:
        """Take a chunk of what is there; whether there was something. At the end of the stream `ended` is set.

        Args:
            drain: The end is not known to be there or not: never wait for it. Before Linux 5.1, `splice` would.
        """
        room = self._limit - self._size
        try:
            if self.spool >= 0 and room > 0 and not drain and SPLICE:
                return self._splice(min(LARGE_PIPE, room))
            data = os.read(self.fd, CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # the pipe is of no use any more; what has been read stays
            data = b""
        if not data:
            self.ended = True
            return False
        if self._tail is not None:
            self._keep_tail(self._tail, data)
        else:
            if len(data) > room:
                self.truncated = True
                self.exceeded = self.fails
                data = data[:room]
            if data:
                self._keep(data)
        return True

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= INLINE:
            self._chunks.append(data)
            return
        try:
            if self.spool < 0:
                self.spool = open_spool()
                for chunk in self._chunks:
                    write_all(self.spool, chunk)
                self._chunks.clear()
                enlarge(self.fd)
            write_all(self.spool, data)
        except OSError as failure:
            self.error = failure.errno or errno.EIO

    def _keep_tail(self, tail: bytearray, data: bytes) -> None:
        tail += data
        if len(tail) > self._limit:
            self.truncated = True
            if len(tail) > 2 * self._limit:  # not more often: each trim is a copy
                del tail[: len(tail) - self._limit]

    def _splice(self, count: int) -> bool:
        try:
            moved = os.splice(self.fd, self.spool, count)
        except BlockingIOError:
            return False
        except OSError as failure:
            self.error = failure.errno or errno.EIO
            self.ended = True
            return False
        self._size += moved
        self.ended = not moved
        return moved > 0

    def close(self) -> None:
        """Read no more."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def result(self) -> bytes:
        """What was captured; empty if it is in the spool."""
        if self._tail is None:
            return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        data = bytes(self._tail[max(0, len(self._tail) - self._limit) :])
        if len(data) <= INLINE:
            return data
        try:
            self.spool = open_spool()
            write_all(self.spool, data)
        except OSError as failure:
            self.error = failure.errno or errno.EIO
        return b""


def open_spool() -> int:
    """A file without a name, in memory where the system has that."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("aiocmdpool", os.MFD_CLOEXEC)
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def write_all(fd: int, data: bytes) -> None:
    """Write all of it, to a file."""
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


def enlarge(fd: int) -> None:
    """Make a pipe carry more at a time; where that is refused it carries less."""
    try:
        fcntl.fcntl(fd, F_SETPIPE_SZ, LARGE_PIPE)
    except OSError:
        return
