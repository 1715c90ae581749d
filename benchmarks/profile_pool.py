"""Where the parent's time for a command goes: `python -m benchmarks.profile_pool [--pool process|command] [--top N]`.

A profile of the loop's thread while commands run through a pool on uvloop. The profiler makes every Python call dearer,
so the shares count, not the times; what a command costs without it is printed first.
"""

import argparse
import asyncio
import contextlib
import cProfile
import pstats
import time
from collections.abc import AsyncIterator

import uvloop

from aiocmdpool import CommandConfig, CommandExecutor, CommandPool, ExecutionConfig, ExecutionMode, ProcessPool
from benchmarks.workloads import TRUE

IN_FLIGHT = 16
WARM_UP = 300  # commands


@contextlib.asynccontextmanager
async def _pool(kind: str) -> AsyncIterator[CommandExecutor]:
    if kind == "process":
        async with ProcessPool() as process_pool:
            yield process_pool
    else:
        config = ExecutionConfig(mode=ExecutionMode.PROCESS_POOL, concurrency_limit=IN_FLIGHT)
        async with CommandPool(config) as command_pool:
            yield command_pool


async def _run(executor: CommandExecutor, count: int) -> float:
    """CPU seconds of this process for so many commands."""
    command = CommandConfig(TRUE.program, TRUE.args)

    async def repeat() -> None:
        for _ in range(count // IN_FLIGHT):
            await executor.execute(command)

    began = time.process_time()
    await asyncio.gather(*(repeat() for _ in range(IN_FLIGHT)))
    return time.process_time() - began


async def _profile(kind: str, count: int) -> cProfile.Profile:
    async with _pool(kind) as executor:
        await _run(executor, WARM_UP)
        cpu = await _run(executor, count)
        print(f"{cpu / count * 1e6:.1f} µs of parent CPU for each of {count} commands, without the profiler\n")
        profile = cProfile.Profile(time.thread_time)
        profile.enable()
        await _run(executor, count)
        profile.disable()
        return profile


def main() -> None:
    """Read the command line and profile."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile_pool", description=__doc__)
    parser.add_argument("--pool", choices=("process", "command"), default="process")
    parser.add_argument("--count", type=int, default=4000, help="commands (default: 4000)")
    parser.add_argument("--top", type=int, default=30, help="functions to show (default: 30)")
    given = parser.parse_args()
    profile = uvloop.run(_profile(given.pool, given.count))
    pstats.Stats(profile).sort_stats("tottime").print_stats(given.top)


if __name__ == "__main__":
    main()
