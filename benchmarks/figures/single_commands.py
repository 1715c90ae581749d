"""What one call of `aiocmdpool.execute` takes: the first in a process, the later ones, and those of a new loop each.

The later ones beside mode PROCESS, which keeps no worker: in turns, so that both see the same machine.
"""

import asyncio
import json
import statistics
import time
from collections.abc import Callable

from aiocmdpool import CommandConfig, ExecutionMode, execute
from benchmarks import child
from benchmarks.quantiles import Spread
from benchmarks.workloads import TRUE

COMMAND = CommandConfig(TRUE.program)
MODES = {"resident": ExecutionMode.PROCESS_POOL, "child": ExecutionMode.PROCESS}
PAIRS = 100


def measure(quick: bool) -> dict[str, float]:
    """In a fresh process for each first call; ratios are of speeds, the default to PROCESS."""
    runs = [child.answer(__name__) for _ in range(3 if quick else 9)]
    figures: dict[str, float] = {}
    for name in ("first", "later_ratio", "new_loop_ratio"):
        spread = Spread.of([run[name] for run in runs])
        assert spread is not None
        figures |= {f"{name}_{key}": value for key, value in spread.as_fields().items()}
    return figures


def _seconds(call: Callable[..., object], *arguments: object) -> float:
    began = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - began


def _ratio(call: Callable[[ExecutionMode], object]) -> float:
    taken: dict[str, list[float]] = {name: [] for name in MODES}
    for _ in range(PAIRS):
        for name, mode in MODES.items():
            taken[name].append(_seconds(call, mode))
    return statistics.median(taken["child"]) / statistics.median(taken["resident"])


def _measure() -> dict[str, float]:
    with asyncio.Runner() as runner:
        runner.run(asyncio.sleep(0))  # the loop's own start is not ours
        first = _seconds(lambda: runner.run(execute(COMMAND)))
        later = _ratio(lambda mode: runner.run(execute(COMMAND, mode=mode)))
    return {
        "first": first,
        "later_ratio": later,
        "new_loop_ratio": _ratio(lambda mode: asyncio.run(execute(COMMAND, mode=mode))),
    }


if __name__ == "__main__":
    print(json.dumps(_measure()))
