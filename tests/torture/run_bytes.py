"""Many fast exits, of whose output not a byte may be lost."""

import asyncio
import itertools
import random
import sys

from aiocmdpool.commands.errors import ExecuteError
from aiocmdpool.pool.command_pool import CommandPool

from .backends import BACKENDS
from .commands import Sample, checksummed, fed
from .host import LOOPS

IN_FLIGHT = 16
FED_SHARE = 50  # one in so many is fed, and gives back, more than a pipe holds
SHOWN = 20


async def lost_bytes(backend: str, commands: int, seed: int) -> list[str]:
    """Run so many, each of which exits as soon as it has written; returns what was wrong with any of them."""
    chance, wrong = random.Random(seed), list[str]()

    def samples() -> "list[Sample]":
        return [fed(chance) if index % FED_SHARE == 0 else checksummed(chance, 200) for index in range(commands)]

    async with BACKENDS[backend].make() as executor, CommandPool(executor=executor) as pool:
        await asyncio.gather(*(_take_turns(pool, share, wrong) for share in _shares(samples())))
        counts = pool.statistics()
    if counts.completed != commands or counts.submitted != commands:
        wrong.append(f"{commands} commands, and the statistics say: {counts}")
    return wrong


async def _take_turns(pool: CommandPool, samples: list[Sample], wrong: list[str]) -> None:
    for sample in samples:
        try:
            complaint = sample.check(await pool.execute(sample.command))
        except ExecuteError as error:
            complaint = f"{type(error).__name__}: {error}"
        if complaint:
            wrong.append(f"{sample.kind}: {complaint}")


def _shares(samples: list[Sample]) -> list[list[Sample]]:
    return [list(itertools.islice(samples, start, None, IN_FLIGHT)) for start in range(IN_FLIGHT)]


def main(backend: str, commands: int, seed: int) -> int:
    """For the command line; the exit status."""
    with asyncio.Runner(loop_factory=LOOPS["uvloop"]) as runner:
        wrong = runner.run(lost_bytes(backend, commands, seed))
    print(f"{backend}: {commands} commands, {len(wrong)} of them wrong")
    print(*wrong[:SHOWN], sep="\n", file=sys.stderr)
    return int(bool(wrong))
