"""One call after the other, in one thread: what a caller waits for."""

import subprocess
import time
from collections.abc import Callable

from anyio.from_thread import start_blocking_portal

from aiocmdpool import CommandConfig, sync
from aiocmdpool.sync.calls import Call
from aiocmdpool.sync.process_wide import background
from benchmarks.quantiles import Spread

TRUE = CommandConfig("true")
WARM_UP = 20  # calls of each; workers start, caches fill

SUBPROCESS = "subprocess.run"


async def _nothing() -> None:
    pass


def latencies(turns: int) -> dict[str, float]:
    """The median seconds of a call of each kind, all kinds in turn, so that other load strikes them alike.

    Args:
        turns: How many calls of each kind.
    """
    with (
        sync.ProcessPool() as process_pool,
        sync.CommandPool() as pool,
        start_blocking_portal(backend_options={"use_uvloop": True}) as portal,
    ):
        calls: dict[str, Callable[[], object]] = {
            SUBPROCESS: lambda: subprocess.run(["true"], capture_output=True, check=False),
            "sync.run": lambda: sync.run("true"),
            "sync.execute": lambda: sync.execute(TRUE),
            "sync.ProcessPool.execute": lambda: process_pool.execute(TRUE),
            "sync.CommandPool.execute": lambda: pool.execute(TRUE),
            "an empty call": lambda: Call(background(), _nothing).finish(),
            "an empty portal.call": lambda: portal.call(_nothing),
        }
        return _medians(calls, turns)


def _medians(calls: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(WARM_UP + turns):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if turn >= WARM_UP:
                seconds[name].append(time.perf_counter() - began)
    medians = {}
    for name, each in seconds.items():
        spread = Spread.of(each)
        assert spread is not None
        medians[name] = spread.median
    return medians
