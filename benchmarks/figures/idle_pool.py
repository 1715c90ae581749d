"""What a pool costs that has nothing to do: no CPU time, not one context switch, and some memory."""

import asyncio
import sys
import time

import uvloop

from aiocmdpool import CommandConfig, ProcessPool
from benchmarks import child
from benchmarks.process_figures import children, context_switches, cpu_seconds, resident_bytes
from benchmarks.workloads import TRUE

WORKERS = 2
COMMANDS = 400  # before it idles: what a worker needs when it has worked is what counts
CALM_AFTER = 2.5  # seconds until the last timer of a busy pool has run out


def measure(quick: bool) -> dict[str, float]:
    """Watch an idle pool from outside, so that watching it does not wake it."""
    seconds = 1.0 if quick else 5.0
    process = child.start(__name__)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "idle\n":
            _, stderr = process.communicate(timeout=child.TIME_LIMIT)
            raise child.MeasurementFailed(child.last_line(stderr))
        workers = children(process.pid)
        everyone = [process.pid, *workers]
        time.sleep(CALM_AFTER)
        switches, cpu = sum(map(context_switches, everyone)), sum(map(cpu_seconds, everyone))
        time.sleep(seconds)
        return {
            "seconds": seconds,
            "context_switches": sum(map(context_switches, everyone)) - switches,
            "cpu": sum(map(cpu_seconds, everyone)) - cpu,
            "worker_rss": max(map(resident_bytes, workers)),
        }
    finally:
        child.end(process)


async def _idle() -> None:
    command = CommandConfig(TRUE.program)
    async with ProcessPool(WORKERS) as pool:
        await asyncio.gather(*(pool.execute(command) for _ in range(COMMANDS)))
        print("idle", flush=True)
        over = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(sys.stdin, over.set_result, None)
        await over


if __name__ == "__main__":
    uvloop.run(_idle())
