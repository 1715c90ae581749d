"""`JsonArrayFile`: a growing JSON array in a file that is valid at any time, even after `kill -9`.

Every write starts at the closing bracket and ends with a new one. In between, elements wait in a buffer of bounded
size, so a killed process loses the end of the array, not the file.
"""

import contextlib
import os

BUFFER_LIMIT = 64 * 1024  # bytes
_CLOSING = b"\n]\n"


class JsonArrayFile:
    """A file that contains a JSON array, empty at first.

    Args:
        path: Path of a regular file, created or emptied; not a pipe, in which no bracket can be overwritten.

    Raises:
        OSError: The file cannot be opened or written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # Non-blocking: a pipe without a reader is an error then, instead of a wait.
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
        self._end = 0  # offset of the closing bracket
        self._buffer: list[str] = []
        self._size = 0
        self._empty = True
        try:
            os.lseek(self._fd, 0, os.SEEK_CUR)
            self._write(b"[")
        except BaseException:
            os.close(self._fd)
            raise

    def append(self, element: str) -> bool:
        """Add an element in JSON; return whether enough of them wait for a `flush`."""
        self._buffer.append(element)
        self._size += len(element)
        return self._size >= BUFFER_LIMIT

    def flush(self) -> None:
        """Write the waiting elements.

        Raises:
            OSError: The write failed. The elements are lost, and the file is still valid.
        """
        if not self._buffer:
            return
        data = ("\n" if self._empty else ",\n") + ",\n".join(self._buffer)
        self._buffer.clear()
        self._size = 0
        self._write(data.encode())
        self._empty = False

    def close(self) -> None:
        """Write the waiting elements and close the file. Harmless when repeated.

        Raises:
            OSError: The write failed.
        """
        if self._fd < 0:
            return
        try:
            self.flush()
        finally:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _write(self, data: bytes) -> None:
        """Replace the closing bracket by `data` and a new bracket."""
        rest, at = memoryview(data + _CLOSING), self._end
        try:
            while rest:
                written = os.pwrite(self._fd, rest, at)
                rest, at = rest[written:], at + written
        except OSError:
            with contextlib.suppress(OSError):  # the bracket fits, because it did before
                os.ftruncate(self._fd, self._end)
                os.pwrite(self._fd, _CLOSING, self._end)
            raise
        self._end += len(data)
