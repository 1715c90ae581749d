"""A thousand commands that take a second each, all at once, on two workers."""

import asyncio
import json
import shutil
import time

import uvloop

from aiocmdpool import CommandConfig, ProcessPool
from benchmarks import child
from benchmarks.process_figures import descriptors, resident_bytes
from benchmarks.runner.__main__ import allow_descriptors

WORKERS = 2
SLEEPERS = 1000
SLEEP = 1.0  # seconds


def measure(quick: bool) -> dict[str, float]:
    """In a process of its own."""
    return child.answer(__name__)


async def _sleep() -> dict[str, float]:
    command = CommandConfig(shutil.which("sleep") or "sleep", [str(SLEEP)])
    async with ProcessPool(WORKERS) as pool:
        await pool.execute(CommandConfig(command.program, ["0"]))
        workers = pool.statistics().pids
        most_descriptors = most_memory = most_at_once = 0
        began = time.monotonic()
        tasks = [asyncio.create_task(pool.execute(command)) for _ in range(SLEEPERS)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0.1)
            most_descriptors = max(most_descriptors, *map(descriptors, workers))
            most_memory = max(most_memory, *map(resident_bytes, workers))
            most_at_once = max(most_at_once, pool.statistics().in_flight)
        seconds = time.monotonic() - began
        succeeded = sum(result.returncode == 0 for result in await asyncio.gather(*tasks))
    return {
        "seconds": seconds,
        "succeeded": succeeded,
        "in_flight": most_at_once,
        "worker_descriptors": most_descriptors,
        "worker_rss": most_memory,
    }


if __name__ == "__main__":
    allow_descriptors()
    print(json.dumps(uvloop.run(_sleep())))
