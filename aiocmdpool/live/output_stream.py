"""`OutputStream`: reads the output of a live process on demand.

Nothing is read ahead: a slow reader lets the pipe fill, which stops the program (pipe(7)), and memory stays constant.
"""

import asyncio
import codecs
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Literal

from aiocmdpool.commands import validate
from aiocmdpool.commands.errors import ConfigError, LineTooLong
from aiocmdpool.live.pipe_end import PipeEnd

AT_A_STRETCH = 16  # chunks in a row without yielding to the loop
DEFAULT_MAX_LINE = 1024 * 1024  # bytes
WIDEST = 10  # most bytes of one character: 10 in unicode_escape, 4 in UTF-32


class OutputStream:
    """The stdout or stderr of a live process, for reading. Iterate over it for its lines.

    Only one reader at a time. Cancelling a read, or leaving an iteration early, loses nothing: the next reader
    continues there.

    Args:
        fd: Descriptor of the pipe or terminal, owned from here on.
        name: `stdout` or `stderr`, for messages.
        on_data: Called whenever a piece has been read.
        encoding: Encoding for `text_lines`.
    """

    def __init__(self, fd: int, name: str, on_data: Callable[[], None], encoding: str = "utf-8") -> None:
        self.pipe = PipeEnd(fd, name)
        self.name = name
        self._on_data = on_data
        self._encoding = encoding
        # Data that has been read and not been returned, in this order: lines (or pieces of one) that are cut already,
        # the beginning of a line, and the rest.
        self._cut: Iterator[bytes] = iter(())
        self._cut_at = b"\n"
        self._head: list[bytes] = []
        self._head_size = 0
        self._rest = b""
        self._stretch = 0

    async def read(self, count: int = -1) -> bytes:
        """Return up to `count` bytes, as soon as there are any; all to the end if negative. Empty at the end."""
        if count == 0:
            return b""
        if count > 0:
            data = self._unread() or await self._chunk()
            self._rest = data[count:]
            return data[:count]
        parts = [self._unread()]
        self._rest = b""
        try:
            while data := await self._chunk():
                parts.append(data)
        except BaseException:
            self._rest = b"".join(parts)
            raise
        return b"".join(parts)

    async def read_exactly(self, count: int) -> bytes:
        """Wait for exactly `count` bytes and return them.

        Raises:
            EOFError: The stream ended before; the bytes up to there can still be read.
            ValueError: `count` is negative.
        """
        if count < 0:
            raise ValueError(f"count: {count} is not a number of bytes >= 0")
        parts = [self._unread()]
        size = len(parts[0])
        self._rest = b""
        try:
            while size < count:
                parts.append(await self._chunk())
                size += len(parts[-1])
                if not parts[-1]:
                    raise EOFError(f"{self.name} ended after {size} of {count} bytes")
        finally:
            data = b"".join(parts)
            self._rest = data[count:] if size >= count else data
        return data[:count]

    async def read_line(self, max_line: int = DEFAULT_MAX_LINE) -> bytes:
        """Return the next line with its newline; without one at the end of the stream, and empty after the end.

        Raises:
            LineTooLong: The line is longer than `max_line` bytes; it can still be read, by `read`.
        """
        parts: list[bytes] = []
        size = 0
        data = self._unread()
        self._rest = b""
        try:
            while True:
                end = data.find(b"\n") + 1
                if (size + end - 1 if end else size + len(data)) > max_line:
                    raise self._too_long(max_line)
                if end:
                    line, self._rest = b"".join((*parts, data[:end])), data[end:]
                    return line
                parts.append(data)
                size += len(data)
                data = b""
                data = await self._chunk()
                if not data:
                    return b"".join(parts)
        except BaseException:
            self._rest = b"".join((*parts, data))
            raise

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield pieces as they come, to the end of the stream."""
        while data := self._unread() or await self._chunk():
            self._rest = b""
            yield data

    async def lines(
        self, *, max_line: int = DEFAULT_MAX_LINE, long_lines: Literal["error", "split"] = "error"
    ) -> AsyncIterator[bytes]:
        """Yield lines without their newlines, to the end of the stream; the last line may lack one.

        Args:
            max_line: Most bytes of a line.
            long_lines: For longer lines: "error" raises `LineTooLong`, "split" yields pieces of at most that many
                bytes.

        Raises:
            LineTooLong: See `long_lines`; the line can still be read.
        """
        validate.whole_number(1)("max_line", max_line)
        if long_lines not in ("error", "split"):
            message = f'long_lines: {validate.shown(long_lines)} is neither "error" nor "split"'
            raise ConfigError(message, field="long_lines")
        while True:
            for line in self._cut:
                yield line
            data = self._rest or await self._chunk()
            self._rest = b""
            if not data:
                break
            self._cut_lines(data, max_line, long_lines)
        last = b"".join(self._head)
        self._head, self._head_size = [], 0
        if last:
            yield last

    async def text_lines(self, *, errors: str = "strict", max_line: int = DEFAULT_MAX_LINE) -> AsyncIterator[str]:
        """Yield lines like `lines`, decoded one by one with the command's `encoding`.

        Args:
            errors: As for `bytes.decode`; `"replace"` never fails.
            max_line: Most bytes of a line.

        In encodings whose newline is more than one byte, such as UTF-16, data that has been read is lost when an
        iteration is left early, or on an error.

        Raises:
            LineTooLong: A line is longer than `max_line` bytes.
            UnicodeDecodeError: A line is not valid in that encoding.
        """
        validate.whole_number(1)("max_line", max_line)
        if "\n".encode(self._encoding) == b"\n":
            async for line in self.lines(max_line=max_line):
                yield line.decode(self._encoding, errors)
            return
        # In UTF-16 and the like, a byte that looks like a newline can be a part of a character.
        decoder = codecs.getincrementaldecoder(self._encoding)(errors)
        text = ""
        async for piece in self.chunks():
            *whole, text = (text + decoder.decode(piece)).split("\n")
            for each in whole:
                self._check_length(each, max_line)
                yield each
            self._check_length(text, max_line)
        if text := text + decoder.decode(b"", True):
            yield text

    def _check_length(self, line: str, max_line: int) -> None:
        if WIDEST * len(line) <= max_line:
            return
        mark = len("".encode(self._encoding))  # some encodings begin each text with a byte order mark (UTF-16)
        if len(line.encode(self._encoding, "replace")) - mark > max_line:
            raise self._too_long(max_line)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.lines()

    def _cut_lines(self, data: bytes, max_line: int, long_lines: Literal["error", "split"]) -> None:
        """Split data that has been read into lines."""
        first, *others = data.split(b"\n")
        size = self._head_size + len(first)
        if size > max_line or (len(data) > max_line and max(map(len, others), default=0) > max_line):
            data = b"".join((*self._head, data))
            self._head, self._head_size = [], 0
            self._cut_long_lines(data, max_line, long_lines)
            return
        self._head.append(first)
        self._head_size = size
        if others:
            self._cut, self._cut_at = iter((b"".join(self._head), *others[:-1])), b"\n"
            self._head, self._head_size = [others[-1]], len(others[-1])

    def _cut_long_lines(self, data: bytes, max_line: int, long_lines: Literal["error", "split"]) -> None:
        """Split data that contains too long a line: the lines before it, or, if it comes first, the line itself."""
        lines, at = [], 0
        while (end := data.find(b"\n", at, at + max_line + 1)) >= 0:
            lines.append(data[at:end])
            at = end + 1
        if not lines and long_lines == "error":
            self._rest = data
            raise self._too_long(max_line)
        self._cut_at = b"\n" if lines else b""
        if not lines:
            end = data.find(b"\n")
            end = len(data) if end < 0 else end
            while end - at > max_line:  # the last piece stays with its newline
                lines.append(data[at : at + max_line])
                at += max_line
        self._cut, self._rest = iter(lines), data[at:]

    def _too_long(self, max_line: int) -> LineTooLong:
        return LineTooLong(f"a line on {self.name} is longer than {max_line} bytes; raise max_line, or split it")

    def _unread(self) -> bytes:
        """Return all data that has been read and not been returned."""
        cut = b"".join(line + self._cut_at for line in self._cut)
        if cut or self._head:
            self._rest = b"".join((cut, *self._head, self._rest))
            self._head, self._head_size = [], 0
        return self._rest

    # -- the pipe ---------------------------------------------------------------------------------------------------

    async def _chunk(self) -> bytes:
        """Return the next piece from the program; empty at the end, and from then on."""
        if self._stretch >= AT_A_STRETCH:  # other tasks need the loop, too
            self._stretch = 0
            await asyncio.sleep(0)
        while self.pipe.fd >= 0:
            try:
                data = self.pipe.read()
            except BlockingIOError:
                self._stretch = 0
                await self.pipe.readable()
            else:
                self._stretch += 1
                if data:
                    self._on_data()
                return data
        return b""

    def read_now(self) -> bytes:
        """Return the data that is there now, without waiting; empty if there is none, and at the end."""
        data = self._unread()
        self._rest = b""
        if data or self.pipe.fd < 0:
            return data
        try:
            data = self.pipe.read()
        except BlockingIOError:
            return b""
        if data:
            self._on_data()
        return data

    @property
    def at_end(self) -> bool:
        """Return whether everything has been read, to the end of the stream."""
        return self.pipe.fd < 0 and not self._unread()

    def close(self) -> None:
        """Stop reading: a program that goes on writing gets SIGPIPE. Harmless when repeated."""
        self.pipe.close()
