"""`InputStream`: writes to the stdin of a live process."""

import asyncio
import errno
import os
from collections.abc import Iterable

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import StdinClosed
from aiocmdpool.live.terminal import end_of_input
from aiocmdpool.system.fork import keep_from_forks

HIGH_WATER = 65536  # unsent bytes above which `drain` waits; the capacity of a pipe
AT_A_STRETCH = 16  # writes in a row without yielding to the loop
_NEWLINE = ord("\n")


class InputStream:
    """The stdin of a live process, for writing.

    `write` never waits, `drain` waits until the program has taken most of what was written: call it after each write.

    Args:
        fd: Descriptor of the pipe or terminal, owned from here on.
        command: The command, for messages.
        is_terminal: Whether the end of input has to be written as a character, because closing does not show it.
    """

    def __init__(self, fd: int, command: CommandConfig, *, is_terminal: bool = False) -> None:
        self._loop = asyncio.get_running_loop()
        self._fd = fd
        self._command = command
        self._unsent = bytearray()
        self._is_terminal = is_terminal
        self._within_line = False
        self._closing = False
        self._broken = False
        self._stretch = 0
        self._waiters: list[asyncio.Future[None]] = []
        os.set_blocking(fd, False)
        keep_from_forks(self)

    def held(self) -> Iterable[int]:
        """Return the descriptors to close in forked children, for `keep_from_forks`."""
        return (self._fd,)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data` as far as the program takes it, and keep the rest until it does.

        Raises:
            StdinClosed: The program reads no more, or `close` was called.
        """
        self._check()
        if isinstance(data, memoryview):
            data = data.cast("B")
        if data:
            self._within_line = data[-1] != _NEWLINE
        if not self._unsent:
            data = data[self._send(data) :]
            if data and self._fd >= 0:
                self._loop.add_writer(self._fd, self._writable)
        self._unsent += data

    async def drain(self) -> None:
        """Wait until at most `HIGH_WATER` bytes are unsent.

        Raises:
            StdinClosed: The program reads no more.
        """
        self._stretch += 1
        if self._stretch >= AT_A_STRETCH and len(self._unsent) <= HIGH_WATER:  # a writer in a loop lets other tasks run
            self._stretch = 0
            await asyncio.sleep(0)
        while len(self._unsent) > HIGH_WATER:
            await self._changed()
        if self._broken:
            raise self._gone()

    def close(self) -> None:
        """End the input: the program sees its end after it has read all that was written."""
        if self._is_terminal and not self.closed:  # the first one ends just a started line (termios(3))
            self.write(end_of_input(self._fd) * (1 + self._within_line))
        self._closing = True
        if not self._unsent:
            self.abandon()

    async def aclose(self) -> None:
        """End the input, and wait until the program has taken all of it, or takes no more."""
        self.close()
        while self._fd >= 0:
            await self._changed()

    @property
    def closed(self) -> bool:
        """Return whether nothing can be written any more."""
        return self._closing or self._fd < 0

    def abandon(self) -> None:
        """Close at once, and drop bytes that have not been taken. Harmless when repeated."""
        if self._fd >= 0:
            if self._unsent:
                self._loop.remove_writer(self._fd)
                self._unsent.clear()
            os.close(self._fd)
            self._fd = -1
            self._wake()

    def _check(self) -> None:
        if self._broken:
            raise self._gone()
        if self.closed:
            raise StdinClosed(
                f"{self._command.display()}: its stdin was closed", errno=errno.EPIPE, command=self._command
            )

    def _gone(self) -> StdinClosed:
        message = f"{self._command.display()}: it reads its stdin no more: it has closed it, or has ended"
        return StdinClosed(message, errno=errno.EPIPE, command=self._command)

    def _send(self, data: bytes | bytearray | memoryview) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError:  # EPIPE, or EIO of a terminal: nobody reads
            self._broken = True
            self.abandon()
            return len(data)

    def _writable(self) -> None:
        sent = self._send(self._unsent)
        if self._fd < 0:
            return
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self._fd)
            if self._closing:
                self.abandon()
        self._wake()

    async def _changed(self) -> None:
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
