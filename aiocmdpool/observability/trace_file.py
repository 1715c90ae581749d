"""A JSON array that grows in a file, and is valid JSON whenever one looks: after Ctrl-C, and after `kill -9`.

Every write begins where the closing bracket stands and ends with a new one. Elements wait in a buffer of bounded size
in between, so what a killed process loses is the end of the array, not the file.
"""

import contextlib
import os

BUFFER_LIMIT = 64 * 1024  # bytes
_CLOSING = b"\n]\n"


class JsonArrayFile:
    """A file with a JSON array in it, begun anew.

    Args:
        path: A regular file that is made, or emptied; not a pipe, in which no bracket can be overwritten.

    Raises:
        OSError: It cannot be opened, or written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # A pipe without a reader would make us wait here; like this it is an error.
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
        self._end = 0  # where the closing bracket stands
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
        """Add an element, which is JSON of its own. Returns whether enough wait for it to be time for a `flush`."""
        self._buffer.append(element)
        self._size += len(element)
        return self._size >= BUFFER_LIMIT

    def flush(self) -> None:
        """Write what waits.

        Raises:
            OSError: That failed. What waited is lost, and the file is still valid.
        """
        if not self._buffer:
            return
        data = ("\n" if self._empty else ",\n") + ",\n".join(self._buffer)
        self._buffer.clear()
        self._size = 0
        self._write(data.encode())
        self._empty = False

    def close(self) -> None:
        """Write what waits, and let go of the file. Harmless when repeated.

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
        """Put bytes in the place of the closing bracket, and a new one behind them."""
        rest, at = memoryview(data + _CLOSING), self._end
        try:
            while rest:
                written = os.pwrite(self._fd, rest, at)
                rest, at = rest[written:], at + written
        except OSError:
            with contextlib.suppress(OSError):  # what fits is there already: it had its room before
                os.ftruncate(self._fd, self._end)
                os.pwrite(self._fd, _CLOSING, self._end)
            raise
        self._end += len(data)
