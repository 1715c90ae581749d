"""`map_commands`: the implementation of `CommandPool.map`, with a bounded number of commands in flight.

A feeder task takes commands from the source and pushes them, so that a slow source does not delay results, and slow
consumption bounds the source. It also closes the source, in the same task that has iterated over it.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from time import perf_counter

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ExecuteError, TaskCancelled
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.loops.waiting import wait_through
from aiocmdpool.system.safe_log import SafeLog
from aiocmdpool.tasks.handle import TaskHandle

Commands = Iterable[CommandConfig] | AsyncIterable[CommandConfig]

SOURCE_TIMEOUT = 2.0  # seconds for a source to end after the iteration is left; one that goes on is abandoned
SLICE = 0.001  # seconds per loop iteration that are spent on cancelling commands in flight

_log = SafeLog("aiocmdpool.pool")


async def map_commands(
    push: Callable[[CommandConfig], Awaitable[TaskHandle]],
    commands: Commands,
    *,
    ordered: bool,
    in_flight: int,
    return_errors: bool,
) -> AsyncIterator[CommandResult | ExecuteError]:
    """Run many commands and iterate over their results, as described for `CommandPool.map`."""
    flight, owner = _Flight(push, ordered, in_flight), os.getpid()
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
        if feeder.cancelled():  # not by the caller, who must not take it for a cancellation of its own
            raise TaskCancelled(f"map: its source, {commands!r}, raised CancelledError, or its task was cancelled")
        feeder.result()  # raises the error of the source
    finally:
        if os.getpid() == owner:  # a forked child that unwinds leaves the commands of its parent alone
            await flight.abandon(feeder, commands)


class _Flight:
    """The commands that are pushed and not yet yielded."""

    def __init__(self, push: Callable[[CommandConfig], Awaitable[TaskHandle]], ordered: bool, in_flight: int) -> None:
        self._push = push
        self._ordered = ordered
        self._places = asyncio.Semaphore(in_flight)
        self._is_left = False
        self.handles: set[TaskHandle] = set()
        self.arrivals: asyncio.Queue[TaskHandle | None] = asyncio.Queue()  # bounded by the places

    async def feed(self, commands: Commands) -> None:
        """Push `commands` as places become free, and close an async generator in the end."""
        if not isinstance(commands, AsyncIterable):
            for command in commands:
                await self._launch(command)
            return
        source = aiter(commands)
        try:
            async for command in source:
                if self._is_left:  # the source has swallowed the cancellation that should have ended it
                    break
                await self._launch(command)
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()

    async def _launch(self, command: CommandConfig) -> None:
        await self._places.acquire()
        handle = await self._push(command)
        self.handles.add(handle)
        if self._ordered:
            self.arrivals.put_nowait(handle)
        else:
            handle.add_done_callback(self.arrivals.put_nowait)

    def landed(self, handle: TaskHandle) -> None:
        """Free the place of a command whose result is about to be yielded."""
        self.handles.discard(handle)
        self._places.release()

    async def abandon(self, feeder: "asyncio.Task[None]", commands: Commands) -> None:
        """Stop feeding, cancel all commands in flight, and wait until they are settled and the source is closed."""
        self._is_left = True
        was_feeding = not feeder.done()
        feeder.cancel()
        cancelled = await self._cancel_all()
        cancelled = await wait_through(feeder, SOURCE_TIMEOUT) or cancelled
        cancelled = await self._cancel_all() or cancelled  # a command that was just being pushed
        for handle in self.handles:
            cancelled = await handle.wait_settled() or cancelled
        if not feeder.done():
            feeder.add_done_callback(lambda feeder: feeder.cancelled() or feeder.exception())
            _log.warning("map: its source %r goes on although it was cancelled, and is left to itself", commands)
        elif not feeder.cancelled() and (error := feeder.exception()) is not None and was_feeding:
            _log.warning("map: its source %r failed when it was closed", commands, exc_info=error)
        if cancelled is not None:
            raise cancelled

    async def _cancel_all(self) -> asyncio.CancelledError | None:
        """Cancel all commands in flight, however many, without blocking the loop for long."""
        cancelled, until = None, perf_counter() + SLICE
        for handle in tuple(self.handles):
            handle.cancel()
            if perf_counter() > until:
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError as error:
                    cancelled = error
                until = perf_counter() + SLICE
        return cancelled
