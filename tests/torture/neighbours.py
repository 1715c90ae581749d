"""Healthy commands beside the hostile ones, on the same backend: each must come to its own end with its own result."""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ExecuteError, PoolClosed
from aiocmdpool.commands.result import CommandResult

from .commands import Sample, checksummed, prepared

HELD = ("first", "second", "detached")  # the last one says `detach`: its mark is worth stealing
QUICK_TIMEOUT = 20.0  # seconds; more than a busy machine takes
PAUSE = 0.01  # seconds between quick ones: they are there to be disturbed, not to fill the machine
PROGRAM = str(Path(__file__).resolve().parent / "programs" / "neighbour.sh")


class Neighbours:
    """Some that live from before the hostile ones to after them, and quick ones all the while.

    Args:
        execute: That of the backend.
        folder: Where to make a named pipe.
        chance: Decides on the quick ones.
        ready: The path of the named pipe on which the held ones say their names.
    """

    def __init__(
        self,
        execute: Callable[[CommandConfig], Awaitable[CommandResult]],
        folder: str,
        chance: random.Random,
        ready: str,
    ) -> None:
        self._execute, self._chance = execute, chance
        self._go = os.path.join(folder, "go")
        os.mkfifo(self._go)
        self._go_fd = os.open(self._go, os.O_RDWR | os.O_NONBLOCK)  # while it is open, they stay
        self._leaving = False
        self._tasks = [asyncio.ensure_future(self._run(self._held(name, ready))) for name in HELD]
        self._tasks.append(asyncio.ensure_future(self._run_quick_ones()))
        self.settled = 0
        """How many came to an end."""
        self.lost: list[str] = []
        """What became of those that did not come to their own."""

    async def end(self) -> None:
        """Let the held ones go, and wait for the end of all."""
        self._leaving = True
        os.close(self._go_fd)
        try:
            await asyncio.gather(*self._tasks)
        finally:
            os.unlink(self._go)

    def _held(self, name: str, ready: str) -> Sample:
        command = CommandConfig("/bin/sh", [PROGRAM, ready, name, self._go], detach=name == "detached")

        def check(outcome: CommandResult | ExecuteError) -> str:
            if isinstance(outcome, CommandResult) and (outcome.returncode, outcome.stdout) == (3, name.encode()):
                return ""
            return f"{type(outcome).__name__} instead of its own end: {outcome}"

        return Sample(f"neighbour {name}", command, check)

    async def _run_quick_ones(self) -> None:
        closed = False
        while not self._leaving and not closed:
            sample = self._chance.choice((checksummed, prepared))(self._chance)
            closed = await self._run(sample.with_timeout(QUICK_TIMEOUT))
            await asyncio.sleep(PAUSE)

    async def _run(self, sample: Sample) -> bool:
        """Run one; whether its backend is closed."""
        try:
            outcome: CommandResult | ExecuteError = await self._execute(sample.command)
        except ExecuteError as error:
            outcome = error
        self.settled += 1
        complaint = sample.check(outcome)
        result = getattr(outcome, "result", outcome)
        if not complaint and result.leaked:
            complaint = f"said to have left something behind: {result.leaked}"
        if complaint:
            self.lost.append(f"{sample.kind}: {complaint}")
        return isinstance(outcome, PoolClosed)
