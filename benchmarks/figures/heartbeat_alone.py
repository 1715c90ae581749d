"""The heartbeat on a loop that does nothing else: how late it is by nature, and what a beat costs."""

import asyncio
import json
import sys
import time

from benchmarks import child
from benchmarks.quantiles import quantile
from benchmarks.runner.__main__ import LOOPS
from benchmarks.runner.heartbeat import Heartbeat


def measure(quick: bool) -> dict[str, float]:
    """On each loop in a process of its own."""
    figures: dict[str, float] = {}
    for loop in LOOPS:
        said = child.answer(__name__, [loop, "0.4" if quick else "1.5"])
        figures |= {f"{loop}_{name}": value for name, value in said.items()}
    return figures


async def _beat(seconds: float) -> dict[str, float]:
    cpu, heartbeat = time.process_time(), Heartbeat()
    await asyncio.sleep(seconds)
    delays, cpu = heartbeat.stop(), time.process_time() - cpu
    return {
        "lag_p50": quantile(delays, 0.5),
        "lag_p99": quantile(delays, 0.99),
        "lag_max": delays[-1],
        "cpu": cpu / len(delays),
    }


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=LOOPS[sys.argv[1]]) as runner:
        print(json.dumps(runner.run(_beat(float(sys.argv[2])))))
