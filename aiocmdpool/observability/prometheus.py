"""`PoolCollector`: exports the figures of pools to Prometheus, by its official client. Needs the extra `prometheus`.

Nothing is counted twice: the figures are read from the pools at each scrape, and nothing is done in between.
"""

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

if TYPE_CHECKING:
    from aiocmdpool.pool.view import PoolView

_PREFIX = "aiocmdpool"
_FROM, _TO = 2.0**-14, 2.0**14  # seconds, 61 µs to 4.5 hours: the range of buckets that are worth a time series


class PoolCollector(Collector):
    """A collector for the figures of pools; register it with any registry.

    Collecting is quick, and may happen in any thread.

    Args:
        pools: One pool, or several by the name that becomes their label `pool`. Pools that share a registry share a
            collector: two collectors of the same metrics are refused by the registry.

    Example:
        >>> registry = CollectorRegistry()
        >>> registry.register(PoolCollector({"thumbnails": pool}))
        >>> generate_latest(registry)
    """

    def __init__(self, pools: "PoolView | Mapping[str, PoolView]") -> None:
        self._pools = dict(pools) if isinstance(pools, Mapping) else {"default": pools}

    def describe(self) -> list[Metric]:
        """Return the metrics without figures, from which the registry learns their names."""
        return list(PoolCollector({}).collect())

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics with their present figures."""
        yield from self._tasks()
        yield from self._workers()
        yield from self._latencies()
        yield self._health()

    def _tasks(self) -> Iterator[Metric]:
        submitted = _counter("tasks_submitted", "Tasks accepted.")
        finished = _counter("tasks_finished", "Tasks settled, by how.", "status")
        timed_out = _counter("tasks_timed_out", "Tasks that failed by a deadline.")
        queued = _gauge("tasks_queued", "Tasks that wait in the queue or for a permit.")
        running = _gauge("tasks_running", "Tasks that run.")
        limit = _gauge("queue_limit", "Tasks the queue holds at most.")
        for name, pool in self._pools.items():
            now = pool.statistics()
            submitted.add_metric([name], now.submitted)
            for status in ("completed", "failed", "cancelled"):
                finished.add_metric([name, status], getattr(now, status))
            timed_out.add_metric([name], now.timed_out)
            queued.add_metric([name], now.queued)
            running.add_metric([name], now.running)
            if pool.max_size is not None:
                limit.add_metric([name], pool.max_size)
        yield from (submitted, finished, timed_out, queued, running, limit)

    def _workers(self) -> Iterator[Metric]:
        alive = _gauge("workers", "Workers that take commands.")
        wanted = _gauge("workers_wanted", "Workers that there are to be.")
        lost = _counter("workers_lost", "Workers that died or hung.")
        recycled = _counter("workers_recycled", "Workers replaced because of their age or memory.")
        for name, pool in self._pools.items():
            now = pool.worker_statistics()
            if now is not None:
                alive.add_metric([name], now.workers)
                wanted.add_metric([name], now.wanted)
                lost.add_metric([name], now.lost)
                recycled.add_metric([name], now.recycled)
        yield from (alive, wanted, lost, recycled)

    def _latencies(self) -> Iterator[Metric]:
        queue = _histogram("queue", "Seconds from the push of a task to its start.")
        spawn = _histogram("spawn", "Seconds of a run in which its program did not run: its start, and the way back.")
        run = _histogram("run", "Seconds that programs ran.")
        for name, pool in self._pools.items():
            now = pool.latencies()
            for family, histogram in ((queue, now.queue), (spawn, now.spawn), (run, now.run)):
                family.add_metric([name], _buckets(histogram), histogram.total)
        yield from (queue, spawn, run)

    def _health(self) -> Metric:
        family = _gauge("health", "1 for the state that the pool is in, 0 for the others.", "state")
        for name, pool in self._pools.items():
            state = pool.health().state
            for each in HealthState:
                family.add_metric([name, each.value], each is state)
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
