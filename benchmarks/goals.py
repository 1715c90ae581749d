"""The goals of the project, and whether a run meets them."""

import dataclasses
from collections.abc import Callable

from benchmarks.figures.every import Figures
from benchmarks.plan import MAIN_IN_FLIGHT
from benchmarks.quantiles import Spread
from benchmarks.results import Cell, Results
from benchmarks.workloads import TRUE

MAIN: Cell = (TRUE.name, MAIN_IN_FLIGHT, 0)
MICROSECOND, MILLISECOND, MB = 1e-6, 1e-3, 1e6


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """One goal and what was measured; times in µs or ms, memory in MB, as the unit says."""

    title: str
    at_least: bool
    """Whether the limit is a lower one."""
    limit: float
    unit: str
    measured: Spread | None
    """`None`: it was not measured in this run."""

    @property
    def met(self) -> bool | None:
        """Whether the median meets the goal; `None` if it was not measured."""
        if self.measured is None:
            return None
        return self.measured.median >= self.limit if self.at_least else self.measured.median <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        goal = f"{self.title}: goal {sign} {self.limit:g}{self.unit}: "
        if self.measured is None:
            return f"{goal}not measured"
        spread = ""
        if self.measured.low != self.measured.high:
            spread = f", {_short(self.measured.low)} to {_short(self.measured.high)}"
        return f"{goal}{_short(self.measured.median)} ({'met' if self.met else 'not met'}{spread})"


def judge(results: Results, figures: Figures, heap: int) -> list[Verdict]:
    """Hold a run against the goals.

    Args:
        results: The comparison.
        figures: The separate figures.
        heap: The resident bytes of the comparison with a large heap; 0 if that was left out.
    """

    def ratio(above: str, below: str = "floor") -> Spread | None:
        return results.ratio(above, MAIN, below)

    def beside_heap(name: str) -> Spread | None:
        return results.ratio(name, (TRUE.name, MAIN_IN_FLIGHT, heap), name) if heap else None

    def figure(contender: str, name: str, unit: float) -> Spread | None:
        return _scaled(results.spread(contender, MAIN, name), unit)

    def single(group: str, name: str, unit: float = 1.0) -> Spread | None:
        value = figures.get(group, {}).get(name)
        return None if value is None else _scaled(Spread(value, value, value), unit)

    return [
        _floor_goal("resident, niceness 10 / C floor", 0.95, "", ratio("pool-uvloop-nice")),
        _floor_goal("resident / C floor", 0.85, "", ratio("pool-uvloop")),
        _floor_goal("resident / asyncio + semaphore, both on asyncio", 1.8, "", ratio("pool-asyncio", "asyncio")),
        _floor_goal("resident / uvloop + semaphore, both on uvloop", 5, "", ratio("pool-uvloop", "uvloop")),
        _floor_goal("2 GB heap / without, uvloop", 0.95, "", beside_heap("pool-uvloop")),
        _floor_goal("2 GB heap / without, asyncio", 0.95, "", beside_heap("pool-asyncio")),
        _roof_goal("parent CPU, ProcessPool, uvloop", 60, " µs", figure("pool-uvloop", "cpu", MICROSECOND)),
        _roof_goal("parent CPU, CommandPool, uvloop", 80, " µs", figure("command-pool-uvloop", "cpu", MICROSECOND)),
        _roof_goal("loop lag p99, niceness 10", 2, " ms", figure("pool-uvloop-nice", "lag_p99", MILLISECOND)),
        _roof_goal("loop lag p99, niceness 0", 2, " ms", figure("pool-uvloop", "lag_p99", MILLISECOND)),
        _roof_goal("loop lag worst, niceness 10", 10, " ms", figure("pool-uvloop-nice", "lag_max", MILLISECOND)),
        _roof_goal("idle pool, context switches", 0, "", single("idle pool", "context_switches")),
        _roof_goal("idle pool, CPU", 0, " µs", single("idle pool", "cpu", MICROSECOND)),
        _roof_goal("memory of a worker", 12, " MB", single("idle pool", "worker_rss", MB)),
        _roof_goal("start of a pool of 2", 100, " ms", _figure(figures, "start", unit=MILLISECOND)),
        _roof_goal("first call of `execute`", 40, " ms", _figure(figures, "single commands", "first_", MILLISECOND)),
        _floor_goal("later calls / mode PROCESS", 1, "", _figure(figures, "single commands", "later_ratio_")),
        _floor_goal(
            "a loop for each call / mode PROCESS", 0.5, "", _figure(figures, "single commands", "new_loop_ratio_")
        ),
        _floor_goal("1,000 sleepers on 2 workers, succeeded", 1000, "", single("sleepers", "succeeded")),
    ]


def _verdict(at_least: bool) -> Callable[[str, float, str, Spread | None], Verdict]:
    return lambda title, limit, unit, measured: Verdict(title, at_least, limit, unit, measured)


_floor_goal, _roof_goal = _verdict(True), _verdict(False)


def _scaled(spread: Spread | None, unit: float) -> Spread | None:
    return spread and Spread(spread.median / unit, spread.low / unit, spread.high / unit)


def _figure(figures: Figures, name: str, prefix: str = "", unit: float = 1.0) -> Spread | None:
    found = figures.get(name)
    if found is None:
        return None
    return _scaled(Spread(*(found[prefix + key] for key in ("median", "low", "high"))), unit)


def _short(value: float) -> str:
    """Three significant digits, and no exponent."""
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
