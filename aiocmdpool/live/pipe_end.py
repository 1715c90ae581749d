"""`PipeEnd`: our end of a pipe (or terminal) that a program writes to."""

import asyncio
import errno
import fcntl
import os
import sys
import termios
from collections.abc import Iterable

from aiocmdpool.system.fork import keep_from_forks

CHUNK = 65536  # bytes per read; with more, each read would map and unmap its buffer
SMALLEST_PIPE = 16384  # bytes, where the kernel does not provide the size (on macOS, pipes start with that)


class PipeEnd:
    """A pipe that is read on demand; the kernel keeps the rest.

    Args:
        fd: Descriptor of the pipe, owned from here on.
        name: `stdout` or `stderr`, for messages.
    """

    def __init__(self, fd: int, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._name = name
        self._waiter: asyncio.Future[None] | None = None
        self._watched = False
        self.fd = fd
        """Descriptor of the pipe; -1 after its end."""
        os.set_blocking(fd, False)
        keep_from_forks(self)

    def held(self) -> Iterable[int]:
        """Return the descriptors to close in forked children, for `keep_from_forks`."""
        return (self.fd,)

    def read(self) -> bytes:
        """Return the next piece; empty at the end of the pipe, which is then closed.

        Raises:
            BlockingIOError: There is no data now.
        """
        try:
            data = os.read(self.fd, CHUNK)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""  # a terminal reports its end as EIO
        if not data:
            self.close()
        return data

    async def readable(self) -> None:
        """Wait until there is data to read, or the end."""
        waiter = self._loop.create_future()
        self.watch(waiter)
        try:
            await waiter
        finally:
            self.unwatch()

    def watch(self, waiter: "asyncio.Future[None]") -> None:
        """Resolve the future `waiter` when there is data to read, or the end."""
        if self._waiter is not None:
            raise RuntimeError(f"{self._name} is being read by another task already")
        self._waiter = waiter
        if self.fd < 0:
            self._wake()
        elif not self._watched:
            self._watched = True
            self._loop.add_reader(self.fd, self._wake)

    def unwatch(self) -> None:
        """Forget the future given to `watch`.

        The loop watches on until an event finds no future: a reader in a loop waits again before that.
        """
        self._waiter = None

    def _wake(self) -> None:
        if self._waiter is None:
            self._ignore()
        elif not self._waiter.done():
            self._waiter.set_result(None)

    def _ignore(self) -> None:
        if self._watched:
            self._watched = False
            self._loop.remove_reader(self.fd)

    def unread(self) -> int:
        """Return the number of bytes that wait in the pipe."""
        if self.fd < 0:
            return 0
        return int.from_bytes(fcntl.ioctl(self.fd, termios.FIONREAD, bytes(4)), sys.byteorder)

    def may_block(self) -> bool:
        """Return whether the pipe is so full that the program may be blocked.

        A pipe is full when it has no free page; two pages in a row hold more than one page of data (a write goes into
        the page before if it fits: pipe_write in the kernel's fs/pipe.c), so a full pipe holds half of its size or
        more.
        """
        size = SMALLEST_PIPE
        if self.fd >= 0 and hasattr(fcntl, "F_GETPIPE_SZ"):
            size = fcntl.fcntl(self.fd, fcntl.F_GETPIPE_SZ)
        return self.unread() >= size // 2

    def detach(self) -> int:
        """Return the descriptor and forget it; -1 if it is closed. A waiting reader is woken and sees the end."""
        self._ignore()
        fd, self.fd = self.fd, -1
        if fd >= 0 and self._waiter is not None:
            self._wake()
        return fd

    def close(self) -> None:
        """Stop reading and close the pipe. Harmless when repeated."""
        fd = self.detach()
        if fd >= 0:
            os.close(fd)
