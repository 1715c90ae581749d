"""`Output`: one captured stream of a command, on the worker's side.

Small output is kept in memory and sent in the reply. Beyond `INLINE` bytes it goes to a memory file whose descriptor is
handed to the parent in the end; splice(2) moves it there from the pipe without copying it through this process. If
files may not be that large (RLIMIT_FSIZE holds for memory files, too), it stays in memory, and the parent gets a pipe.
"""

import errno
import fcntl
import os
import resource
import sys

from ..wire.messages import FAIL, KEEP_TAIL, pack_spool
from . import budget
from .pour import Pour

INLINE = 65536  # bytes
CHUNK = 65536  # bytes per read; the default capacity of a pipe (pipe(7))
LARGE_PIPE = 1024 * 1024  # bytes; the most an unprivileged process may ask for (/proc/sys/fs/pipe-max-size)
SPLICE = hasattr(os, "splice")
F_SETPIPE_SZ = 1031  # fcntl(2); Python's fcntl module has the name from 3.10 on, on Linux only

_file_limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
LARGEST_FILE = sys.maxsize if _file_limit == resource.RLIM_INFINITY else _file_limit  # bytes


class Output:
    """Reads a pipe until its end, under a limit of its own and under the budget of the pool.

    A tail larger than `INLINE` is kept in the memory file as in a ring: the file holds `_limit` bytes, and new bytes
    replace the oldest. So nothing is held twice, and splice(2) works here, too.

    Attributes:
        fd: The read end; -1 once it is closed.
        ended: Whether nothing more will come.
        truncated: Whether the limit has cut off something.
        exceeded: Whether the limit was exceeded under a policy to fail.
        error: The errno with which the spool failed, or 0.
        is_large: Whether it is too large for the reply.
        spool: The descriptor to hand over then: a memory file, or the pipe that `pour` opened; -1 for none.
    """

    __slots__ = (
        "_chunks",
        "_limit",
        "_memory",
        "_place",
        "_size",
        "_tail",
        "ended",
        "error",
        "exceeded",
        "fails",
        "fd",
        "is_large",
        "spool",
        "truncated",
    )

    def __init__(self, fd: int, limit: int, policy: int) -> None:
        self.fd = fd
        self.fails = policy == FAIL
        self._limit = limit if limit >= 0 else sys.maxsize
        self._tail = policy == KEEP_TAIL
        self._chunks: list[bytes] = []
        self._memory = bytearray()  # used in place of a memory file if none may be made
        self._size = 0  # bytes kept, in memory or in the spool
        self._place = 0  # offset of the next byte in the spool
        self.truncated = self.exceeded = self.ended = self.is_large = False
        self.error = 0
        self.spool = -1

    def read(self, drain: bool = False) -> bool:
        """Read a chunk; return whether there was one. At the end of the stream `ended` is set.

        Args:
            drain: Whether the pipe may be empty: then never block, as `splice` would before Linux 5.1.
        """
        if self.spool >= 0 and not drain and SPLICE:
            try:
                count = self._takes(LARGE_PIPE)
            except OSError as failure:  # from the look at the budget, not from the pipe
                self.error = failure.errno or errno.EIO
                self.ended = True  # what is not read would keep the loop awake
                return False
            if count:
                return self._splice(count)
        try:
            data = os.read(self.fd, CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # the pipe is broken; what has been read is kept
            data = b""
        if not data:
            self.ended = True
            return False
        try:
            self._keep(data)
        except OSError as failure:
            self.error = failure.errno or errno.EIO
        return True

    def _keep(self, data: bytes) -> None:
        if not self.is_large and self._size + len(data) > INLINE < self._limit:
            self._open_spool(len(data))
        if self.is_large:
            self._keep_in_spool(data)
        elif self._tail:
            self._keep_tail(data)
        else:
            self._keep_head(data)

    def _keep_head(self, data: bytes) -> None:
        left = self._limit - self._size
        if len(data) > left:
            self._cut()
            data = data[:left]
        if data:
            self._chunks.append(data)
            self._size += len(data)

    def _keep_tail(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        if self._size > self._limit:
            self._cut()
            if self._size > 2 * self._limit:  # not more often, because each trim copies
                self._chunks = [self._joined()]
                self._size = len(self._chunks[0])

    def _cut(self) -> None:
        self.truncated = True
        self.exceeded = self.fails

    def _joined(self) -> bytes:
        """Return the joined chunks, cut to the limit."""
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        return data[len(data) - self._limit :] if len(data) > self._limit else data

    # -- in the spool -----------------------------------------------------------------------------------------------

    def _open_spool(self, more: int) -> None:
        """Move the output to a memory file, if the budget has more left than fits into a reply anyway."""
        if budget.left(self._size + more) <= INLINE:
            self._limit = INLINE
            return
        if self._limit <= LARGEST_FILE:
            self.spool = open_spool()
        self.is_large = True
        chunks, self._chunks, self._size = self._chunks, [], 0
        for chunk in chunks:
            self._write(chunk)
        enlarge(self.fd)

    def _keep_in_spool(self, data: bytes) -> None:
        while data:
            count = self._takes(len(data))
            if not count:
                self._cut()
                return
            self._write(data[:count])
            data = data[count:]

    def _takes(self, count: int) -> int:
        """Return how many of `count` bytes may be written at `_place` in one piece; 0 if no more are kept."""
        if self._size == self._place < self._limit:  # the file still grows
            count = min(count, self._limit - self._size)
            allowed = budget.left(count)
            if allowed < count:  # the budget is used up, so this is the limit from now on
                self._limit = self._size + allowed
            if allowed:
                return allowed
        if not self._tail:
            return 0
        if self._place == self._limit:
            self._place = 0
        return min(count, self._limit - self._place)

    def _write(self, data: bytes) -> None:
        if self.spool < 0:
            self._memory[self._place : self._place + len(data)] = data
            self._moved(len(data))
            return
        left = memoryview(data)
        while left:
            written = os.pwrite(self.spool, left, self._place)
            self._moved(written)
            left = left[written:]

    def _splice(self, count: int) -> bool:
        try:
            moved = os.splice(self.fd, self.spool, count, offset_dst=self._place)
        except BlockingIOError:
            return False
        except OSError as failure:
            self.error = failure.errno or errno.EIO
            self.ended = True
            return False
        self._moved(moved)
        self.ended = not moved
        return moved > 0

    def _moved(self, count: int) -> None:
        """Account for `count` bytes that have been written at `_place`."""
        grown = max(0, self._place + count - self._size)
        if grown < count:  # some have replaced older bytes
            self.truncated = True
        budget.add(grown)
        self._size += grown
        self._place += count

    def close(self) -> None:
        """Close the pipe, to read no more."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def result(self) -> bytes:
        """Return the captured bytes, or the description of the spool with size and start."""
        if not self.is_large:
            return self._joined() if self._chunks else b""
        in_place = bool(self._memory) or not self._size  # there is nothing to move if the first write failed
        return pack_spool(self._size, 0 if in_place else self._place % self._size)

    def pour(self, poller, over) -> "Pour | None":  # type: ignore[no-untyped-def]
        """Open a pipe for large output that is in no file; `over` is called with the returned object at its end."""
        if not self._memory:
            return None
        start = self._place % self._size
        try:
            pour = Pour(poller, self._memory[start:] + self._memory[:start] if start else self._memory, over)
        except OSError as failure:
            self.error = failure.errno or errno.EIO
            return None
        self.spool = pour.reading
        return pour

    def drop(self) -> None:
        """Discard large output that nobody gets, and return its bytes to the budget."""
        if self.is_large:
            budget.add(-self._size)
        if self.spool >= 0:
            os.close(self.spool)
            self.spool = -1


def open_spool() -> int:
    """Return the descriptor of a file without a name, in memory if the system has that."""
    if hasattr(os, "memfd_create"):
        try:
            return os.memfd_create("aiocmdpool", os.MFD_CLOEXEC)
        except OSError as failure:
            if failure.errno not in (errno.EPERM, errno.EACCES, errno.ENOSYS):  # seccomp, vm.memfd_noexec
                raise
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def enlarge(fd: int) -> None:
    """Enlarge the capacity of a pipe to `LARGE_PIPE`, unless the system refuses."""
    try:
        fcntl.fcntl(fd, F_SETPIPE_SZ, LARGE_PIPE)
    except OSError:
        return
