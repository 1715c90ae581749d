"""`events_of`: both outputs of a live process as one sequence."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from aiocmdpool.live.output_stream import AT_A_STRETCH, OutputStream


class OutputEvent(NamedTuple):
    """A piece of output of a live process."""

    stream: str
    """Name of the stream: `stdout` or `stderr`."""
    data: bytes


async def events_of(streams: Sequence[OutputStream]) -> AsyncIterator[OutputEvent]:
    """Yield pieces of several streams as they come, to the end of all. If left early, the rest stays readable."""
    stretch = 0
    while left := [stream for stream in streams if not stream.at_end]:
        silent = True
        for stream in left:
            data = stream.read_now()
            if data:
                silent = False
                yield OutputEvent(stream.name, data)
        stretch += 1
        if silent:
            stretch = 0
            await _any_readable([stream for stream in left if not stream.at_end])
        elif stretch >= AT_A_STRETCH:
            stretch = 0
            await asyncio.sleep(0)


async def _any_readable(streams: Sequence[OutputStream]) -> None:
    """Wait until one of the streams has data, or comes to its end."""
    if not streams:
        return
    readable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    watched = []
    try:
        for stream in streams:
            stream.pipe.watch(readable)
            watched.append(stream)
        await readable
    finally:
        for stream in watched:
            stream.pipe.unwatch()
