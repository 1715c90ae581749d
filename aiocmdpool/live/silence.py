"""`SilenceWatch`: applies `idle_timeout` to a live process."""

import asyncio
from collections.abc import Callable, Collection
from time import monotonic

from aiocmdpool.live.output_stream import OutputStream


class SilenceWatch:
    """Calls back when a program has written nothing for `limit` seconds.

    Output counts when it is read, and without a reader when a check, every `limit` seconds, finds more in the pipes. A
    program that is blocked by a slow reader is not silent.

    Args:
        limit: Seconds without output.
        streams: The streams that it writes to.
        on_silence: Called once, when the time is over.
    """

    def __init__(self, limit: float, streams: Collection[OutputStream], on_silence: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = limit
        self._streams = streams
        self._on_silence = on_silence
        self._last = monotonic()
        self._unread = 0
        self._timer = self._loop.call_later(limit, self._look)

    def heard(self) -> None:
        """Note that output was read just now."""
        self._last = monotonic()

    def _look(self) -> None:
        unread = sum(stream.pipe.unread() for stream in self._streams)
        if unread > self._unread or any(stream.pipe.may_block() for stream in self._streams):
            self._last = monotonic()
        self._unread = unread
        left = self._last + self._limit - monotonic()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._on_silence()

    def close(self) -> None:
        """Stop watching. Harmless when repeated."""
        self._timer.cancel()
