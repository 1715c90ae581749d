"""`PoolCollector`: exports the figures of pools to Prometheus, by its official client. Needs the extra `prometheus`.

Nothing is counted twice: the figures are read from the pools at each scrape, and nothing is done in between.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        "aiocmdpool.observability.prometheus needs the package prometheus_client; "
        "install it with: pip install 'aiocmdpool[prometheus]'"
    ) from error

from aiocmdpool.observability.health import HealthState
from aiocmdpool.observability.histogram import LatencyHistogram
from aiocmdpool.system.safe_log import SafeLog

if TYPE_CHECKING:
    from aiocmdpool.backends.workers.statistics import ProcessPoolStatistics
    from aiocmdpool.observability.observer import PoolLatencies
    from aiocmdpool.pool.statistics import PoolStatistics
    from aiocmdpool.pool.view import PoolView
    from aiocmdpool.sync.command_pool import CommandPool
    from aiocmdpool.sync.seg_pool import CommandPoolSeg

    AnyPool = PoolView | CommandPool | CommandPoolSeg

_log = SafeLog("aiocmdpool.observability")

_PREFIX = "aiocmdpool"
_FROM, _TO = 2.0**-14, 2.0**14  # seconds, 61 µs to 4.5 hours: the range of buckets that are worth a time series


class PoolCollector(Collector):
    """A collector for the figures of pools; register it with any registry.

    Collecting is quick, and may happen in any thread. A pool that cannot be read, because an executor of somebody
    else's raises where it is asked, is logged and left out; the figures of the others are there.

    Args:
        pools: One pool, or several by the name that becomes their label `pool`. Pools that share a registry share a
            collector: two collectors of the same metrics are refused by the registry.

    Example:
        >>> registry = CollectorRegistry()
        >>> registry.register(PoolCollector({"thumbnails": pool}))
        >>> generate_latest(registry)
    """

    def __init__(self, pools: "AnyPool | Mapping[str, AnyPool]") -> None:
        self._pools = dict(pools) if isinstance(pools, Mapping) else {"default": pools}

    def describe(self) -> list[Metric]:
        """Return the metrics without figures, from which the registry learns their names."""
        return list(PoolCollector({}).collect())

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics with the figures of this moment."""
        figures = self._figures()
        yield from _tasks(figures)
        yield from _workers(figures)
        yield from _latencies(figures)
        yield _health(figures)

    def _figures(self) -> "dict[str, _Figures]":
        """Return the figures of each pool that can be read, by the name of the pool."""
        figures = {}
        for name, pool in self._pools.items():
            try:
                figures[name] = _Figures(
                    tasks=pool.statistics(),
                    max_size=pool.max_size,
                    workers=pool.worker_statistics(),
                    latencies=pool.latencies(),
                    state=pool.health().state,
                )
            except Exception:
                _log.exception("the figures of the pool %r could not be read", name)
        return figures


@dataclasses.dataclass(frozen=True, slots=True)
class _Figures:
    """The figures of one pool at one moment."""

    tasks: "PoolStatistics"
    max_size: int | None
    workers: "ProcessPoolStatistics | None"
    latencies: "PoolLatencies"
    state: HealthState


def _tasks(figures: dict[str, _Figures]) -> Iterator[Metric]:
    submitted = _counter("tasks_submitted", "Tasks accepted.")
    finished = _counter("tasks_finished", "Tasks settled, by how.", "status")
    timed_out = _counter("tasks_timed_out", "Tasks that failed by a deadline.")
    queued = _gauge("tasks_queued", "Tasks that wait in the queue or for a permit.")
    running = _gauge("tasks_running", "Tasks that run.")
    limit = _gauge("queue_limit", "Tasks the queue holds at most.")
    for name, each in figures.items():
        now = each.tasks
        submitted.add_metric([name], now.submitted)
        for status in ("completed", "failed", "cancelled"):
            finished.add_metric([name, status], getattr(now, status))
        timed_out.add_metric([name], now.timed_out)
        queued.add_metric([name], now.queued)
        running.add_metric([name], now.running)
        if each.max_size is not None:
            limit.add_metric([name], each.max_size)
    yield from (submitted, finished, timed_out, queued, running, limit)


def _workers(figures: dict[str, _Figures]) -> Iterator[Metric]:
    alive = _gauge("workers", "Workers that take commands.")
    wanted = _gauge("workers_wanted", "Workers that there are to be.")
    lost = _counter("workers_lost", "Workers that died or hung.")
    recycled = _counter("workers_recycled", "Workers replaced because of their age or memory.")
    for name, each in figures.items():
        now = each.workers
        if now is not None:
            alive.add_metric([name], now.workers)
            wanted.add_metric([name], now.wanted)
            lost.add_metric([name], now.lost)
            recycled.add_metric([name], now.recycled)
    yield from (alive, wanted, lost, recycled)


def _latencies(figures: dict[str, _Figures]) -> Iterator[Metric]:
    queue = _histogram("queue", "Seconds from the push of a task to its start.")
    spawn = _histogram("spawn", "Seconds of a run in which its program did not run: its start, and the way back.")
    run = _histogram("run", "Seconds that programs ran.")
    for name, each in figures.items():
        now = each.latencies
        for family, histogram in ((queue, now.queue), (spawn, now.spawn), (run, now.run)):
            family.add_metric([name], _buckets(histogram), histogram.total)
    yield from (queue, spawn, run)


def _health(figures: dict[str, _Figures]) -> Metric:
    family = _gauge("health", "1 for the state that the pool is in, 0 for the others.", "state")
    for name, each in figures.items():
        for state in HealthState:
            family.add_metric([name, state.value], state is each.state)
    return family


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"{_PREFIX}_{name}", text, labels=("pool", *labels))


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=("pool", *labels))


def _histogram(name: str, text: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"{_PREFIX}_{name}_seconds", text, labels=("pool",))


def _buckets(histogram: LatencyHistogram) -> list[tuple[str, float]]:
    """Return the cumulative buckets in the client's form, each bound twice the one before."""
    kept = [(repr(bound), float(seen)) for bound, seen in histogram.cumulative() if _FROM <= bound <= _TO]
    return [*kept, ("+Inf", float(histogram.count))]
