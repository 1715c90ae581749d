"""`idle_timeout` of a live process: how long it may write nothing."""

import asyncio
from collections.abc import Callable, Collection
from time import monotonic

from aiocmdpool.live.output_stream import OutputStream


class SilenceWatch:
    """Calls back when a program has written nothing for so long.

    What was written is known when it is read, and where nobody reads by a look, every `limit`, at what waits in the
    pipes. A program that a slow reader keeps waiting is not silent.

    Args:
        limit: Seconds.
        streams: What it writes to.
        on_silence: Called once.
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
        """Something was read."""
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
        """Stop listening. Harmless when repeated."""
        self._timer.cancel()
