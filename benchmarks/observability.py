"""What it costs to watch a pool: `python -m benchmarks.observability [--rounds N] [--commands N] [--save FILE]`.

The same commands go through pools that differ in nothing but what is switched on, on one loop, in slices of a fraction
of a second that take turns in an order drawn anew for each round. Whatever else the machine does strikes all alike;
each slice is compared with the one of the same round that had nothing switched on. The second one that had nothing
either says how far the figures can be trusted.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from typing import Any

import uvloop
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from prometheus_client import CollectorRegistry, generate_latest

from aiocmdpool import CommandConfig, CommandPool, ExecutionConfig
from aiocmdpool.observability.chrome_trace import ChromeTrace
from aiocmdpool.observability.events import EventHook
from aiocmdpool.observability.opentelemetry import SpanHook
from aiocmdpool.observability.prometheus import PoolCollector
from benchmarks.machine import describe_machine, one_line
from benchmarks.process_figures import cpu_seconds
from benchmarks.quantiles import Spread
from benchmarks.workloads import TRUE

IN_FLIGHT = 16
WARM_UP = 320  # commands
SCRAPE_EVERY = 5.0  # seconds; most scrapers come every 15 or 60
TICK = os.sysconf("SC_CLK_TCK")
BASE, CONTROL = "nothing", "nothing, again"
EVERYTHING = "everything, as a service has it"  # lines at INFO, one span of ten kept
KEPT_SPANS = 0.1
GOAL = 0.95  # of the commands a second without it
RESULT = pathlib.Path(__file__).parent / "results" / "observability.json"
LOG = logging.getLogger("aiocmdpool")


@dataclasses.dataclass(slots=True)
class Slice:
    """A few hundred commands; all figures are seconds for each of them."""

    wall: float
    cpu: float
    """Of this process."""
    cpu_of_all: float
    """Of this process, the workers, and the commands."""


class Contender:
    """A pool, with what is switched on around a slice of its commands."""

    def __init__(self, hooks: list[EventHook], *, level: int = logging.WARNING, scrapes: bool = False) -> None:
        self.pool = CommandPool(ExecutionConfig(concurrency_limit=IN_FLIGHT), hooks=hooks)
        self._level = level
        self._registry: CollectorRegistry | None = None
        self._scraped_at = 0.0
        if scrapes:
            self._registry = CollectorRegistry()
            self._registry.register(PoolCollector(self.pool))

    async def run(self, count: int) -> Slice:
        """Run so many commands."""
        LOG.setLevel(self._level)
        command = CommandConfig(TRUE.program, TRUE.args)

        async def repeat() -> None:
            for _ in range(count // IN_FLIGHT):
                await self.pool.execute(command)

        of_all, cpu, wall = self._cpu_of_all(), time.process_time(), time.perf_counter()
        await asyncio.gather(*(repeat() for _ in range(IN_FLIGHT)))
        self._scrape()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        of_all = self._cpu_of_all() - of_all
        done = count // IN_FLIGHT * IN_FLIGHT
        return Slice(wall / done, cpu / done, of_all / done)

    def _scrape(self) -> None:
        if self._registry is not None and time.monotonic() - self._scraped_at > SCRAPE_EVERY:
            self._scraped_at = time.monotonic()
            generate_latest(self._registry)

    def _cpu_of_all(self) -> float:
        counters = self.pool.worker_statistics()
        pids = counters.pids if counters is not None else ()
        return time.process_time() + sum(cpu_seconds(pid) + _children_cpu_seconds(pid) for pid in pids)


def _children_cpu_seconds(pid: int) -> float:
    """CPU time of the children that a process has reaped; in ticks, which even out over many slices."""
    with contextlib.suppress(OSError):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[13]) + int(fields[14])) / TICK
    return 0.0


class _Drop(SpanExporter):
    """Where the spans go: what a network and a collector cost is not ours to measure."""

    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


@contextlib.asynccontextmanager
async def contenders(folder: str) -> AsyncIterator[dict[str, Contender]]:
    """All of them, started."""
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(open(os.path.join(folder, "log"), "w"))
        handler = logging.StreamHandler(sink)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        LOG.addHandler(handler)
        LOG.propagate = False
        stack.callback(LOG.removeHandler, handler)

        def trace(name: str) -> ChromeTrace:
            return stack.enter_context(ChromeTrace(os.path.join(folder, name)))

        def spans(kept: float) -> SpanHook:
            provider = TracerProvider(sampler=ParentBasedTraceIdRatio(kept))
            provider.add_span_processor(BatchSpanProcessor(_Drop()))
            stack.callback(provider.shutdown)
            return SpanHook(provider.get_tracer("benchmark"))

        def nothing(event: object) -> None:
            pass

        debug = logging.DEBUG
        made = {
            BASE: Contender([]),
            CONTROL: Contender([]),
            "a hook that does nothing": Contender([nothing]),
            "log at INFO": Contender([], level=logging.INFO),
            "log at DEBUG, to a file": Contender([], level=debug),
            "Prometheus, a scrape in 5 s": Contender([], scrapes=True),
            "Chrome trace": Contender([trace("1")]),
            "OpenTelemetry, 1 span of 10 kept": Contender([spans(KEPT_SPANS)]),
            "OpenTelemetry, every span kept": Contender([spans(1.0)]),
            EVERYTHING: Contender([nothing, trace("2"), spans(KEPT_SPANS)], level=logging.INFO, scrapes=True),
            "everything, every line and span": Contender([nothing, trace("3"), spans(1.0)], level=debug, scrapes=True),
        }
        async with contextlib.AsyncExitStack() as pools:
            for each in made.values():
                await pools.enter_async_context(each.pool)
                await each.run(WARM_UP)
            yield made


async def measure(rounds: int, count: int, order: random.Random) -> dict[str, list[Slice]]:
    """Slices of every contender, round by round."""
    with tempfile.TemporaryDirectory() as folder:
        async with contenders(folder) as made:
            taken: dict[str, list[Slice]] = {name: [] for name in made}
            for number in range(rounds):
                print(f"\rround {number + 1} of {rounds}", end="", file=sys.stderr, flush=True)
                for name in order.sample(list(made), len(made)):
                    taken[name].append(await made[name].run(count))
            print(file=sys.stderr)
            return taken


def summarize(taken: dict[str, list[Slice]]) -> list[dict[str, Any]]:
    """A record for each contender: medians over the rounds, with their middle halves."""
    base = taken[BASE]
    records: list[dict[str, Any]] = []
    for name, slices in taken.items():
        pairs = list(zip(slices, base, strict=True))
        records.append(
            {
                "switched_on": name,
                "rate": _spread([1 / mine.wall for mine in slices]),
                "rate_ratio": _spread([other.wall / mine.wall for mine, other in pairs]),
                "cpu_us": _spread([mine.cpu * 1e6 for mine in slices]),
                "cpu_added_us": _spread([(mine.cpu - other.cpu) * 1e6 for mine, other in pairs]),
                "cpu_of_all_us": float(f"{statistics.mean(mine.cpu_of_all for mine in slices) * 1e6:.5g}"),
            }
        )
        records[-1]["cpu_of_all_ratio"] = float(f"{records[-1]['cpu_of_all_us'] / records[0]['cpu_of_all_us']:.4g}")
    return records


def _spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles: single slices are a lottery on a machine that is shared."""
    low, median, high = statistics.quantiles(values, n=4)
    return Spread(median, low, high).as_fields()


def show(records: list[dict[str, Any]]) -> None:
    """A table for people."""
    print(
        f"{'switched on':36} {'commands/s':>10} {'of nothing':>10} {'µs of parent':>13} {'added':>6} {'CPU of all':>10}"
    )
    for record in records:
        print(
            f"{record['switched_on']:36} {record['rate']['median']:10.0f} {record['rate_ratio']['median']:10.3f} "
            f"{record['cpu_us']['median']:13.1f} {record['cpu_added_us']['median']:6.1f} "
            f"{record['cpu_of_all_ratio']:10.3f}"
        )
    [everything] = [record for record in records if record["switched_on"] == EVERYTHING]
    reached = everything["rate_ratio"]["median"]
    print(f"goal: {EVERYTHING}, reaches {GOAL} of nothing: {'met' if reached >= GOAL else 'MISSED'} ({reached:.3f})")


def main() -> None:
    """Read the command line, measure, show and save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.observability", description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--commands", type=int, default=480, help="in a slice (default: 480)")
    parser.add_argument("--seed", type=int, default=1, help="of the order in the rounds")
    parser.add_argument("--save", type=pathlib.Path, default=RESULT, metavar="FILE")
    given = parser.parse_args()
    machine: dict[str, str | int | float] = describe_machine() | {
        "prometheus_client": version("prometheus-client"),
        "opentelemetry_sdk": version("opentelemetry-sdk"),
    }
    print(one_line(machine))
    run: Callable[..., Any] = uvloop.run
    records = summarize(run(measure(given.rounds, given.commands, random.Random(given.seed))))
    show(records)
    about = {"rounds": given.rounds, "commands_in_a_slice": given.commands, "seed": given.seed, "in_flight": IN_FLIGHT}
    saved = {"machine": machine, "run": about, "goal_rate_ratio": GOAL, "contenders": records}
    given.save.write_text(json.dumps(saved, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
