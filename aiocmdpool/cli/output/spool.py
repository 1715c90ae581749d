"""Bytes of any number on their way out: the first of them in memory, more than that in a file without a name."""

import errno
import os
import tempfile
from collections.abc import Iterator

IN_MEMORY = 1024 * 1024  # bytes; what is longer goes to a file
PIECE = 1024 * 1024  # bytes read back at a time
LARGE_FILES = "/var/tmp"  # for what would fill a /tmp that is in memory (file-hierarchy(7))


class Spool:
    """A sequence of bytes that is written once, from its beginning, and then read once.

    Ownership: `close` gives the file back; `pieces` does so at its end.

    Raises:
        OSError: There is no file to be had, or no space for it.
    """

    __slots__ = ("_file", "_memory", "ends_line", "size")

    def __init__(self, data: bytes = b"") -> None:
        self.size = 0
        self.ends_line = False
        """Whether the last byte is a newline."""
        self._memory = bytearray()
        self._file = -1
        self.append(data)

    def append(self, data: bytes) -> None:
        """Add bytes at the end.

        Raises:
            OSError: They cannot be kept; what was there before still is.
        """
        if not data:
            return
        if self._file < 0 and self.size + len(data) > IN_MEMORY:
            self._move_to_file()
        if self._file >= 0:
            _write(self._file, data, self.size)
        else:
            self._memory += data
        self.size += len(data)
        self.ends_line = data.endswith(b"\n")

    @property
    def is_file(self) -> bool:
        """Whether its bytes are in a file, which takes a descriptor."""
        return self._file >= 0

    def pieces(self) -> Iterator[bytes]:
        """Read it from its beginning, and close it.

        Raises:
            OSError: The file cannot be read.
        """
        if self._file < 0:
            yield bytes(self._memory)
        position = 0
        while self._file >= 0 and position < self.size:
            piece = os.pread(self._file, min(PIECE, self.size - position), position)
            if not piece:
                raise OSError(0, "a file of large output became shorter")
            position += len(piece)
            yield piece
        self.close()

    def close(self) -> None:
        """Forget the bytes. Harmless when repeated."""
        self._memory = bytearray()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _move_to_file(self) -> None:
        try:
            with tempfile.TemporaryFile(dir=directory(), buffering=0) as file:  # it never has a name that could stay
                _write(file.fileno(), self._memory, 0)
                self._file = os.dup(file.fileno())
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):  # rather in memory, until there is a descriptor
                return
            raise
        self._memory = bytearray()


def directory() -> str:
    """Where large output is kept: `TMPDIR`, or a directory that is meant for large files."""
    if os.environ.get("TMPDIR") or not os.access(LARGE_FILES, os.W_OK | os.X_OK):
        return tempfile.gettempdir()
    return LARGE_FILES


def _write(fd: int, data: bytes | bytearray, at: int) -> None:
    with memoryview(data) as rest:
        done = 0
        while done < len(rest):
            done += os.pwrite(fd, rest[done:], at + done)
