"""How a command with 200 MB of captured output is felt by small commands beside it, and how often it is copied.

Small commands run alone, then beside a program that writes as much to the null device (so much is the price of a busy
machine), then beside one whose output is captured.
"""

import asyncio
import json
import resource
import sys
import time

import uvloop

from aiocmdpool import CommandConfig, ProcessPool, Stdio
from benchmarks import child
from benchmarks.process_figures import peak_resident_bytes
from benchmarks.quantiles import quantile
from benchmarks.workloads import MEGABYTE, TRUE

WORKERS = 2
SMALL_IN_FLIGHT = 2
SIZE = 200_000_000  # bytes
RSS_UNIT = 1024 if sys.platform == "linux" else 1  # getrusage(2)


def measure(quick: bool) -> dict[str, float]:
    """In a process of its own."""
    return child.answer(__name__, ["0.7" if quick else "2"])


class _Small:
    """Small commands, one after the other in each of a few tasks, and how long each took."""

    def __init__(self, pool: ProcessPool) -> None:
        self._pool = pool
        self._latencies: list[float] = []
        self._tasks = [asyncio.create_task(self._repeat()) for _ in range(SMALL_IN_FLIGHT)]

    async def _repeat(self) -> None:
        command = CommandConfig(TRUE.program)
        while True:
            began = time.monotonic()
            await self._pool.execute(command)
            self._latencies.append(time.monotonic() - began)

    async def end(self, name: str) -> dict[str, float]:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        ordered = sorted(self._latencies)
        return {f"{name}_p50": quantile(ordered, 0.5), f"{name}_p99": quantile(ordered, 0.99)}


async def _run(seconds: float) -> dict[str, float]:
    figures: dict[str, float] = {"size": SIZE}
    quiet = CommandConfig(MEGABYTE.program, ["-c", str(SIZE), "/dev/zero"], stdout=Stdio.NULL)
    large = quiet.with_options(stdout=Stdio.CAPTURE)
    async with ProcessPool(WORKERS) as pool:
        await asyncio.gather(*(pool.execute(CommandConfig(TRUE.program)) for _ in range(100)))
        small = _Small(pool)
        await asyncio.sleep(seconds)
        figures |= await small.end("alone")

        small, until = _Small(pool), time.monotonic() + seconds
        while time.monotonic() < until:
            await pool.execute(quiet)
        figures |= await small.end("uncaptured")

        before = _own_peak()
        small, until, took = _Small(pool), time.monotonic() + seconds, []
        while time.monotonic() < until:
            began = time.monotonic()
            result = await pool.execute(large)
            took.append(time.monotonic() - began)
            assert len(result.stdout or b"") == SIZE
            del result  # or the next one would stand beside it
        figures |= await small.end("captured")
        figures["large_seconds"] = quantile(sorted(took), 0.5)
        figures["parent_growth"] = _own_peak() - before
        figures["worker_peak_rss"] = max(map(peak_resident_bytes, pool.statistics().pids))
    return figures


def _own_peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_run(float(sys.argv[1])))))
