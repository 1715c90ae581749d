"""Gives large output to the parent through a pipe, where there may be no file that holds it (ulimit -f)."""

import os

from ..loop.poller import WRITE, Poller

CHUNK = 1024 * 1024  # bytes written at once, at most what the pipe takes


class Pour:
    """Writes bytes into a pipe as its reader takes them, and closes it.

    Args:
        poller: Watches the pipe.
        data: What to write.
        over: Called with this object when all is written, or nobody reads any more.

    Attributes:
        reading: The end of the pipe that is for the parent; the caller owns it.

    Raises:
        OSError: There are no descriptors left.
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
        except BlockingIOError:  # the event was that of another descriptor, which had this number before
            return
        except OSError:  # nobody reads
            written = len(self._data)
        self._data = self._data[written:]
        if not self._data:
            self._poller.forget(self._fd)
            os.close(self._fd)
            self._over(self)
