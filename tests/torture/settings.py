"""Many commands with settings that take more than a plain start, a few dozen in flight: not one of them may be lost."""

import asyncio
import random
import sys

from aiocmdpool.commands.errors import ExecuteError

from .backends import BACKENDS, workers_of
from .commands import prepared
from .host import LOOPS

IN_FLIGHT = 32
SHOWN = 5


async def lost_with_settings(backend: str, commands: int, seed: int) -> list[str]:
    """Run so many; return what was wrong with any of them, and with the workers at the end."""
    chance, wrong = random.Random(seed), list[str]()
    samples = (prepared(chance) for _ in range(commands))

    async def caller() -> None:
        for sample in samples:
            try:
                complaint = sample.check(await executor.execute(sample.command))
            except ExecuteError as error:
                complaint = sample.check(error)
            if complaint:
                wrong.append(f"{sample.kind}: {complaint}")

    async with BACKENDS[backend].make() as executor:
        await executor.execute(prepared(chance).command)
        before = workers_of(executor)
        await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
        if before and set(before) - set(workers_of(executor)):
            wrong.append(f"workers were lost: there were {before}, and there are {workers_of(executor)}")
    return wrong


def main(backend: str, commands: int, seed: int) -> int:
    """For the command line; the exit status."""
    failed = False
    for loop, factory in LOOPS.items():
        with asyncio.Runner(loop_factory=factory) as runner:
            wrong = runner.run(lost_with_settings(backend, commands // len(LOOPS), seed))
        print(f"{backend}, {loop}: {commands // len(LOOPS)} commands with settings, {len(wrong)} of them wrong")
        print(*wrong[:SHOWN], sep="\n", file=sys.stderr)
        failed = failed or bool(wrong)
    return int(failed)
