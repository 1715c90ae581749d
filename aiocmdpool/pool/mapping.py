"""`CommandPool.map`: many commands in, results out, bounded in flight.

A feeder task takes commands from the source and pushes them, so that a slow source does not hold back results, nor slow
results the source beyond the bound.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ExecuteError
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.loops.waiting import wait_through
from aiocmdpool.tasks.handle import TaskHandle

Commands = Iterable[CommandConfig] | AsyncIterable[CommandConfig]


async def map_commands(
    push: Callable[[CommandConfig], Awaitable[TaskHandle]],
    commands: Commands,
    *,
    ordered: bool,
    in_flight: int,
    return_errors: bool,
) -> AsyncIterator[CommandResult | ExecuteError]:
    """The iteration behind `CommandPool.map`; see there."""
    flight = _Flight(push, ordered, in_flight)
    feeder = asyncio.create_task(flight.feed(commands), name="aiocmdpool-map")
    feeder.add_done_callback(lambda _: flight.arrivals.put_nowait(None))
    fed = False
    try:
        while not fed or flight.handles:
            handle = await flight.arrivals.get()
            if handle is None:
                fed = True
                continue
            try:
                outcome: CommandResult | ExecuteError = await handle
            except ExecuteError as error:
                if not return_errors:
                    raise
                outcome = error
            flight.landed(handle)
            yield outcome
        await feeder  # raises what the source raised
    finally:
        await flight.abandon(feeder)


class _Flight:
    """What is pushed and not yet yielded."""

    def __init__(self, push: Callable[[CommandConfig], Awaitable[TaskHandle]], ordered: bool, in_flight: int) -> None:
        self._push = push
        self._ordered = ordered
        self._places = asyncio.Semaphore(in_flight)
        self.handles: set[TaskHandle] = set()
        self.arrivals: asyncio.Queue[TaskHandle | None] = asyncio.Queue()  # bounded by the places

    async def feed(self, commands: Commands) -> None:
        """Push commands as there are places."""
        if isinstance(commands, AsyncIterable):
            async for command in commands:
                await self._launch(command)
        else:
            for command in commands:
                await self._launch(command)

    async def _launch(self, command: CommandConfig) -> None:
        await self._places.acquire()
        handle = await self._push(command)
        self.handles.add(handle)
        if self._ordered:
            self.arrivals.put_nowait(handle)
        else:
            handle.add_done_callback(self.arrivals.put_nowait)

    def landed(self, handle: TaskHandle) -> None:
        """A result is about to be yielded: its place is free."""
        self.handles.discard(handle)
        self._places.release()

    async def abandon(self, feeder: "asyncio.Task[None]") -> None:
        """Stop feeding, cancel what is in flight, and wait until it is settled."""
        feeder.cancel()
        cancelled = await wait_through(feeder)
        if not feeder.cancelled():
            feeder.exception()  # seen; if it mattered, it has been raised already
        for handle in self.handles:
            handle.cancel()
        for handle in self.handles:
            cancelled = await handle.wait_settled() or cancelled
        if cancelled is not None:
            raise cancelled
