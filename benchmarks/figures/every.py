"""All separate figures of a run."""

import sys
from collections.abc import Callable

from benchmarks import child
from benchmarks.figures import heartbeat_alone, idle_pool, large_output, pool_start, single_commands, sleepers

Values = dict[str, float]
Figures = dict[str, Values]

_FIGURES: dict[str, Callable[[bool], Values]] = {
    "idle pool": idle_pool.measure,
    "start": pool_start.measure,
    "single commands": single_commands.measure,
    "sleepers": sleepers.measure,
    "large output": large_output.measure,
    "heartbeat alone": heartbeat_alone.measure,
}


def measure_figures(quick: bool) -> tuple[Figures, list[str]]:
    """Measure them one after the other.

    Returns:
        The values by figure, in seconds and bytes, and a line for each figure that failed.
    """
    figures: Figures = {}
    failures: list[str] = []
    for name, measure in _FIGURES.items():
        print(f"figure: {name}", file=sys.stderr, flush=True)
        try:
            figures[name] = measure(quick)
        except child.MeasurementFailed as failure:
            failures.append(f"{name}: {failure}")
    return figures, failures
