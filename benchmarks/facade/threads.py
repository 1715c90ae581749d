"""Eight threads, each with one command at a time, against eight commands in flight on a loop."""

import asyncio
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable

import uvloop

from aiocmdpool import CommandConfig, CommandPool, ExecutionConfig, sync

TRUE = CommandConfig("true")
CONFIG = ExecutionConfig(concurrency_limit=8)
WARM_UP = 0.2  # seconds

ASYNC_POOL = "CommandPool, 8 in flight on uvloop"
SYNC_POOL = "sync.CommandPool, 8 threads"


def with_subprocess(seconds: float) -> float:
    """Commands a second of eight threads with `subprocess.run`."""
    return _threads(lambda: subprocess.run(["true"], capture_output=True, check=False), seconds)


def with_sync_pool(seconds: float) -> float:
    """Commands a second of eight threads that share a pool of the facade."""
    with sync.CommandPool(CONFIG) as pool:
        return _threads(lambda: pool.execute(TRUE), seconds)


def with_async_pool(seconds: float) -> float:
    """Commands a second of the async pool."""

    async def measure() -> float:
        async with CommandPool(CONFIG) as pool:
            return await _tasks(lambda: pool.execute(TRUE), seconds)

    return uvloop.run(measure())


RATES: dict[str, Callable[[float], float]] = {
    ASYNC_POOL: with_async_pool,
    SYNC_POOL: with_sync_pool,
    "subprocess.run, 8 threads": with_subprocess,
}


class _Count:
    """How many were completed; each of the eight writes its own place."""

    def __init__(self) -> None:
        self.each = [0] * 8
        self.going = True


def _threads(call: Callable[[], object], seconds: float) -> float:
    count = _Count()

    def repeat(place: int) -> None:
        while count.going:
            call()
            count.each[place] += 1

    threads = [threading.Thread(target=repeat, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(WARM_UP)
    before, began = sum(count.each), time.monotonic()
    time.sleep(seconds)
    rate = (sum(count.each) - before) / (time.monotonic() - began)
    count.going = False
    for thread in threads:
        thread.join()
    return rate


async def _tasks(call: Callable[[], Awaitable[object]], seconds: float) -> float:
    count = _Count()

    async def repeat(place: int) -> None:
        while count.going:
            await call()
            count.each[place] += 1

    tasks = [asyncio.create_task(repeat(place)) for place in range(8)]
    await asyncio.sleep(WARM_UP)
    before, began = sum(count.each), time.monotonic()
    await asyncio.sleep(seconds)
    rate = (sum(count.each) - before) / (time.monotonic() - began)
    count.going = False
    await asyncio.gather(*tasks)
    return rate
