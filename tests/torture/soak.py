"""A long run of mixed commands, at whose end memory and descriptors are what they were soon after its beginning."""

import asyncio
import dataclasses
import os
import random
import tempfile
import time
from pathlib import Path

from aiocmdpool.commands.errors import ExecuteError
from aiocmdpool.pool.command_pool import CommandPool

from .backends import BACKENDS, workers_of
from .commands import KINDS, Sample, checksummed, fed, hostile
from .host import LOOPS
from .survivors import Marks

IN_FLIGHT = 24
SAMPLES = 20
WARM_UP = 4  # samples that are not compared: allocators and caches have to find their size
GROWTH = 1.05  # of resident memory, from the end of the warm-up to the end, plus:
SLACK = 1024  # KiB
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclasses.dataclass(frozen=True)
class Look:
    """Memory and descriptors at one moment, those of the host first, then those of its workers."""

    done: int
    rate: float
    rss: tuple[int, ...]  # KiB
    descriptors: tuple[int, ...]

    def __str__(self) -> str:
        rss, fds = (" ".join(f"{n:7}" for n in numbers) for numbers in (self.rss, self.descriptors))
        return f"{self.done:8}  {self.rate:7.0f}  {rss}  {fds}"


class Soak:
    """The run: callers that take one command after the other until all are done."""

    def __init__(self, backend: str, commands: int, seed: int, folder: str) -> None:
        self._backend, self._commands = backend, commands
        self._chance = random.Random(seed)
        self.marks = Marks()
        self._ready = os.path.join(folder, "ready")
        os.mkfifo(self._ready)
        self._fd = os.open(self._ready, os.O_RDWR | os.O_NONBLOCK)
        self._taken = self._done = 0
        self.wrong: list[str] = []
        self.looks: list[Look] = []

    async def run(self) -> None:
        asyncio.get_running_loop().add_reader(self._fd, os.read, self._fd, 65536)
        async with BACKENDS[self._backend].make() as self._executor, CommandPool(executor=self._executor) as pool:
            for _ in range(SAMPLES):
                began, before = time.monotonic(), self._done
                self._goal = self._taken + self._commands // SAMPLES
                await asyncio.gather(*(self._caller(pool) for _ in range(IN_FLIGHT)))
                self._look((self._done - before) / (time.monotonic() - began))
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)

    async def _caller(self, pool: CommandPool) -> None:
        while self._taken < self._goal:
            self._taken += 1
            sample = self._sample()
            try:
                complaint = sample.check(await pool.execute(sample.command))
            except ExecuteError as error:
                complaint = sample.check(error)
            self._done += 1
            if complaint:
                self.wrong.append(f"{sample.kind}: {complaint}")

    def _sample(self) -> Sample:
        """Mostly `true`; some that write, are fed or fail; a few that have to be killed."""
        drawn = self._chance.random()
        if drawn < 0.003:
            return hostile(self._chance, self._ready, self.marks.of(self._taken % 10**6), anonymous=False)
        if drawn < 0.05:
            return checksummed(self._chance)
        if drawn < 0.06:
            return fed(self._chance)
        return KINDS["non_zero" if drawn < 0.07 else "missing" if drawn < 0.08 else "true"][1](self._chance)

    def _look(self, rate: float) -> None:
        pids = [os.getpid(), *workers_of(self._executor)]
        rss = tuple(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE // 1024 for pid in pids)
        descriptors = tuple(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)
        self.looks.append(Look(self._done, rate, rss, descriptors))
        print(self.looks[-1], flush=True)

    def growth(self) -> list[str]:
        """What is not flat."""
        first, last = self.looks[WARM_UP], self.looks[-1]
        found = [
            f"memory of {who} grew from {before} to {after} KiB"
            for who, (before, after) in enumerate(zip(first.rss, last.rss, strict=True))
            if after > before * GROWTH + SLACK
        ]
        if first.descriptors != last.descriptors:
            found.append(f"descriptors: {first.descriptors} became {last.descriptors}")
        return found


def main(backend: str, commands: int, seed: int) -> int:
    """For the command line; the exit status."""
    print(f"{backend}\n    done  per second  KiB of host and workers  their descriptors")
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(backend, commands, seed, folder)
        with asyncio.Runner(loop_factory=LOOPS["uvloop"]) as runner:
            runner.run(soak.run())
    wrong = soak.wrong[:20] + soak.growth()
    wrong += [f"survived: run {number}, {pids}" for number, pids in soak.marks.alive(environments=True).items()]
    soak.marks.kill()
    print(*(wrong or ["flat"]), sep="\n")
    return int(bool(wrong))
