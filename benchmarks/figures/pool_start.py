"""How long a pool of two takes from nothing until each of its workers has answered its first command."""

import asyncio
import json
import sys
import time

import uvloop

from aiocmdpool import CommandConfig, ProcessPool
from benchmarks import child
from benchmarks.quantiles import Spread
from benchmarks.workloads import TRUE

WORKERS = 2


def measure(quick: bool) -> dict[str, float]:
    """In a process of its own, a few times."""
    return child.answer(__name__, ["3" if quick else "9"])


async def _start(times: int) -> dict[str, float]:
    command = CommandConfig(TRUE.program)
    seconds = []
    for _ in range(times):
        began = time.monotonic()
        async with ProcessPool(WORKERS) as pool:
            await asyncio.gather(*(pool.execute(command) for _ in range(WORKERS)))
            seconds.append(time.monotonic() - began)
    spread = Spread.of(seconds)
    assert spread is not None
    return spread.as_fields()


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_start(int(sys.argv[1])))))
