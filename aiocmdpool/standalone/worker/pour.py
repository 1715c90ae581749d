"""`Pour`: sends large output to the parent through a pipe, if no file may hold it (ulimit -f)."""

import os

from ..loop.poller import WRITE, Poller

CHUNK = 1024 * 1024  # bytes per write, at most the capacity of the pipe


class Pour:
    """Writes bytes into a pipe as fast as its reader takes them, and closes it.

    Args:
        poller: The poller that watches the pipe.
        data: The bytes to write.
        over: Called with this object when all is written, or the reader is gone.

    Attributes:
        reading: The parent's end of the pipe; the caller owns it.

    Raises:
        OSError: There are no free descriptors.
    """

    __slots__ = ("_data", "_fd", "_over", "_poller", "reading")

    def __init__(self, poller: Poller, data: "bytes | bytearray", over) -> None:  # type: ignore[no-untyped-def]
        self.reading, self._fd = os.pipe()
        os.set_blocking(self._fd, False)
        self._data = memoryview(data)
        self._poller = poller
        self._over = over
        poller.watch(self._fd, self._write, WRITE)

    def _write(self, _: int) -> None:
        try:
            written = os.write(self._fd, self._data[:CHUNK])
        except BlockingIOError:  # the event was for a former descriptor of this number
            return
        except OSError:  # nobody reads
            written = len(self._data)
        self._data = self._data[written:]
        if not self._data:
            self._poller.forget(self._fd)
            os.close(self._fd)
            self._over(self)
