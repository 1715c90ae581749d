"""Runs random schedules, each in a process of its own, and says how to try again those that went wrong."""

import asyncio
import contextlib
import dataclasses
import json
import random
import tempfile
from collections.abc import Iterable

from .arena import PATIENCE, end_host, start_module
from .plan import Selection
from .schedule_host import Terms
from .survivors import Marks, describe

MARKS_EACH = 1000
DEADLINE = 60.0  # seconds, for a schedule
STARVED_SHARE = 4  # one in so many


@dataclasses.dataclass
class Verdict:
    """What came of one schedule."""

    terms: Terms
    wrong: list[str]
    log: list[str]

    def __str__(self) -> str:
        replay = f"schedules --backend {self.terms.backend} --loop {self.terms.loop} --replay {self.terms.seed}"
        lines = [f"{replay}{' --starved' if self.terms.starved else ''}", *self.wrong, " ".join(self.log)]
        return "\n    ".join(lines)


def make_terms(
    selection: Selection, count: int, seed: int, marks: Marks, loops: Iterable[str] = ("asyncio", "uvloop")
) -> list[Terms]:
    """So many schedules for each backend."""
    chance, factories = random.Random(seed), list(loops)
    return [
        Terms(
            chance.getrandbits(32),
            backend,
            factories[index % len(factories)],
            marks.token,
            (place * count + index) * MARKS_EACH % 10**6,
            starved=index % STARVED_SHARE == STARVED_SHARE - 1,
        )
        for place, backend in enumerate(selection.backends)
        for index in range(count)
    ]


async def run_schedules(terms: Iterable[Terms], marks: Marks, at_once: int) -> list[Verdict]:
    """Run them, so many at once."""
    permits = asyncio.Semaphore(at_once)

    async def one(its: Terms) -> Verdict:
        async with permits:
            return await run_schedule(its, marks)

    try:
        return await asyncio.gather(*map(one, terms))
    finally:
        marks.kill()


async def run_schedule(terms: Terms, marks: Marks) -> Verdict:
    """Run one and look at what it has left."""
    verdict = Verdict(terms, [], [])
    with tempfile.TemporaryDirectory() as folder:
        process = await start_module("torture.schedule_host", folder, json.dumps(dataclasses.asdict(terms)))
        assert process.stdout is not None
        said = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE):
                said = await process.stdout.read()
                await process.wait()
        ended = process.returncode
        errors = (await end_host(process)).decode(errors="replace")
        verdict.wrong += await _survivors(terms, marks)
    if ended is None:
        verdict.wrong.append(f"the host did not end within {DEADLINE:g} s")
    elif ended != 0 or errors.strip():
        verdict.wrong.append(f"the host ended with {ended}: {errors[-3000:]}")
    if said:
        answer = json.loads(said)
        verdict.wrong += answer["wrong"]
        verdict.log = answer["log"]
    return verdict


async def _survivors(terms: Terms, marks: Marks) -> list[str]:
    """What lives on although its host has closed everything and is gone."""
    mine = range(terms.first, terms.first + MARKS_EACH)
    found: list[str] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while True:
                alive = marks.alive(environments=True)
                found = [f"survived: {describe(pid)}" for number in mine for pid in alive.get(number, [])]
                if not found:
                    break
                await asyncio.sleep(0.05)
    if found:
        marks.kill(mine)
    return found
