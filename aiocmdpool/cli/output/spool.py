"""`Spool`: any number of bytes waiting to be written: in memory, or beyond 1 MiB in a file without a name."""

import errno
import os
import tempfile
from collections.abc import Iterator

IN_MEMORY = 1024 * 1024  # bytes, above which they go to a file
PIECE = 1024 * 1024  # bytes read back at a time
LARGE_FILES = "/var/tmp"  # in place of a /tmp in memory, which they would fill (file-hierarchy(7))


class Spool:
    """A sequence of bytes that is written once, from its beginning, and then read once.

    Ownership: `close` closes the file; `pieces` does so at its end.

    Raises:
        OSError: No file can be made, or it has no space.
    """

    __slots__ = ("_file", "_memory", "ends_line", "size")

    def __init__(self, data: bytes = b"") -> None:
        self.size = 0
        self.ends_line = False
        """Whether the last appended byte is a newline."""
        self._memory = bytearray()
        self._file = -1
        self.append(data)

    def append(self, data: bytes) -> None:
        """Append the bytes `data`.

        Raises:
            OSError: The bytes cannot be kept; earlier ones still are.
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
        """Return whether its bytes are in a file, which takes a descriptor."""
        return self._file >= 0

    def pieces(self) -> Iterator[bytes]:
        """Yield all bytes in pieces, from the beginning, and close it.

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
        """Discard the bytes and close the file. Harmless when repeated."""
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
            if error.errno in (errno.EMFILE, errno.ENFILE):  # stay in memory until there is a descriptor
                return
            raise
        self._memory = bytearray()


def directory() -> str:
    """Return the directory for large output: `TMPDIR`, or one that is meant for large files."""
    if os.environ.get("TMPDIR") or not os.access(LARGE_FILES, os.W_OK | os.X_OK):
        return tempfile.gettempdir()
    return LARGE_FILES


def _write(fd: int, data: bytes | bytearray, at: int) -> None:
    with memoryview(data) as rest:
        done = 0
        while done < len(rest):
            done += os.pwrite(fd, rest[done:], at + done)
