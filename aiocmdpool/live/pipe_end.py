"""Our end of a pipe (or terminal) that a program writes to."""

import asyncio
import errno
import fcntl
import os
import sys
import termios
from collections.abc import Iterable

from aiocmdpool.system.fork import keep_from_forks

CHUNK = 65536  # bytes read at once; for more, each read would map and unmap its buffer
SMALLEST_PIPE = 16384  # bytes, where the kernel does not tell (macOS: pipes begin with that)


class PipeEnd:
    """Read when asked; the kernel keeps the rest.

    Args:
        fd: Owned from here on.
        name: `stdout` or `stderr`, for messages.
    """

    def __init__(self, fd: int, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._name = name
        self._waiter: asyncio.Future[None] | None = None
        self._watched = False
        self.fd = fd
        """-1 after the end."""
        os.set_blocking(fd, False)
        keep_from_forks(self)

    def held(self) -> Iterable[int]:
        """For `keep_from_forks`."""
        return (self.fd,)

    def read(self) -> bytes:
        """The next piece; empty at the end, which closes it.

        Raises:
            BlockingIOError: There is nothing now.
        """
        try:
            data = os.read(self.fd, CHUNK)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""  # the end of a terminal
        if not data:
            self.close()
        return data

    async def readable(self) -> None:
        """Wait until there is something to read, or the end."""
        waiter = self._loop.create_future()
        self.watch(waiter)
        try:
            await waiter
        finally:
            self.unwatch()

    def watch(self, waiter: "asyncio.Future[None]") -> None:
        """Settle a future when there is something to read, or the end."""
        if self._waiter is not None:
            raise RuntimeError(f"{self._name} is being read by another task already")
        self._waiter = waiter
        if self.fd < 0:
            self._wake()
        elif not self._watched:
            self._watched = True
            self._loop.add_reader(self.fd, self._wake)

    def unwatch(self) -> None:
        """Leave that future alone.

        The loop goes on watching until it calls for nobody: who reads one answer after the other waits again before.
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
        """Bytes that wait in it."""
        if self.fd < 0:
            return 0
        return int.from_bytes(fcntl.ioctl(self.fd, termios.FIONREAD, bytes(4)), sys.byteorder)

    def may_block(self) -> bool:
        """Whether so much waits in it that the program may be kept waiting.

        A pipe is full when it has no page left; two pages in a row hold more than one is large (a write goes into the
        page before if it fits: pipe_write in the kernel's fs/pipe.c), so a full one holds half of its size or more.
        """
        size = SMALLEST_PIPE
        if self.fd >= 0 and hasattr(fcntl, "F_GETPIPE_SZ"):
            size = fcntl.fcntl(self.fd, fcntl.F_GETPIPE_SZ)
        return self.unread() >= size // 2

    def detach(self) -> int:
        """Give the descriptor away; -1 if it is closed. Who waits is woken: this is the end."""
        self._ignore()
        fd, self.fd = self.fd, -1
        if fd >= 0 and self._waiter is not None:
            self._wake()
        return fd

    def close(self) -> None:
        """Read no more. Harmless when repeated."""
        fd = self.detach()
        if fd >= 0:
            os.close(fd)
