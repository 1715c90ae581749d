"""The collector: what the client's own parser reads from what it writes, against what the pools say."""

import asyncio
import subprocess
import sys
import threading

import pytest
from contract.support import host_environment, sh
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from aiocmdpool import CommandConfig, CommandPool, sync
from aiocmdpool.observability.prometheus import PoolCollector

from .support import settled

pytestmark = pytest.mark.slow


def samples(registry, parse=text_string_to_metric_families, write=generate_latest):
    """The samples of the text, by name and labels; `pool` apart."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parse(write(registry).decode())
        for sample in family.samples
    }


def registry_of(pools):
    registry = CollectorRegistry()
    registry.register(PoolCollector(pools))
    return registry


async def test_every_figure(running_pool):
    pool = await running_pool(max_size=50)
    await settled(*await pool.push_tasks([sh("exit 0"), sh("exit 1", check=True), sh("exec sleep 60", timeout=0.05)]))
    cancelled = await pool.push_task(sh("exit 0"))
    cancelled.cancel()
    seen = samples(registry_of({"thumbnails": pool}))
    of = ("pool", "thumbnails")
    assert seen["aiocmdpool_tasks_submitted_total", of] == 4
    for status, count in ("completed", 1), ("failed", 2), ("cancelled", 1):
        assert seen["aiocmdpool_tasks_finished_total", of, ("status", status)] == count
    assert seen["aiocmdpool_tasks_timed_out_total", of] == 1
    assert seen["aiocmdpool_tasks_queued", of] == seen["aiocmdpool_tasks_running", of] == 0
    assert seen["aiocmdpool_queue_limit", of] == 50
    assert seen["aiocmdpool_workers", of] == seen["aiocmdpool_workers_wanted", of] == 1
    assert seen["aiocmdpool_workers_lost_total", of] == seen["aiocmdpool_workers_recycled_total", of] == 0
    states = {state: seen["aiocmdpool_health", of, ("state", state)] for state in ("healthy", "degraded", "unhealthy")}
    assert states == {"healthy": 1, "degraded": 0, "unhealthy": 0}


async def test_histograms(running_pool):
    pool = await running_pool(limit=4)
    await settled(*await pool.push_tasks(sh("exit 0") for _ in range(20)))
    seen, latencies = samples(registry_of(pool)), pool.latencies()
    for name in ("queue", "spawn", "run"):
        of, metric = ("pool", "default"), f"aiocmdpool_{name}_seconds"
        assert seen[f"{metric}_count", of] == 20
        assert seen[f"{metric}_sum", of] == pytest.approx(getattr(latencies, name).total)
        buckets = {key[1][1]: value for key, value in seen.items() if key[0] == f"{metric}_bucket"}
        counts = [count for _, count in sorted((float(bound), count) for bound, count in buckets.items())]
        assert counts == sorted(counts)
        assert (counts[-1], len(counts)) == (20, 30)


async def test_openmetrics_read_it_too(running_pool):
    """Their parser is the strict one."""
    pool = await running_pool()
    await pool.execute(sh("exit 0"))
    seen = samples(registry_of(pool), parse_openmetrics, generate_openmetrics)
    assert seen["aiocmdpool_tasks_submitted_total", ("pool", "default")] == 1


async def test_several_pools_in_one_collector(running_pool):
    one, two = await running_pool(), await running_pool(max_size=None)
    await one.execute(sh("exit 0"))
    seen = samples(registry_of({"one": one, "two": two}))
    assert seen["aiocmdpool_tasks_submitted_total", ("pool", "one")] == 1
    assert seen["aiocmdpool_tasks_submitted_total", ("pool", "two")] == 0
    assert ("aiocmdpool_queue_limit", ("pool", "two")) not in seen


async def test_nothing_is_global(running_pool):
    pool = await running_pool()
    registries = [registry_of(pool), registry_of(pool)]
    await pool.execute(sh("exit 0"))
    assert [samples(each)["aiocmdpool_tasks_submitted_total", ("pool", "default")] for each in registries] == [1, 1]
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registries[0].register(PoolCollector({"another": pool}))


@pytest.mark.one_loop
async def test_another_thread_may_collect(running_pool):
    """Which is where `start_http_server` does it, while tasks come and go."""
    pool = await running_pool(limit=4)
    registry, stop, failures = registry_of(pool), threading.Event(), []

    def scrape():
        try:
            while not stop.is_set():
                generate_latest(registry)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        await settled(*await pool.push_tasks(sh("exit 0") for _ in range(100)))
    finally:
        stop.set()
        thread.join()
    assert failures == []


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [("prometheus", "prometheus_client", "prometheus"), ("opentelemetry", "opentelemetry", "opentelemetry")],
)
def test_without_the_package_the_error_names_the_extra(module, package, extra):
    script = f"import sys; sys.modules[{package!r}] = None; import aiocmdpool.observability.{module}"
    ran = subprocess.run([sys.executable, "-c", script], env=host_environment(), capture_output=True, text=True)
    last = ran.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: aiocmdpool.observability.{module} needs the package ")
    assert last.endswith(f"pip install 'aiocmdpool[{extra}]'")


def test_the_package_itself_needs_neither():
    script = (
        "import sys; sys.modules['prometheus_client'] = sys.modules['opentelemetry'] = None; import aiocmdpool.__main__"
    )
    subprocess.run([sys.executable, "-c", script], env=host_environment(), check=True)


class Unready:
    """An executor of somebody else's, with a property of a name that means something here."""

    @property
    def executor(self):
        raise RuntimeError("not connected")

    async def execute(self, command):
        raise NotImplementedError


class Unreadable:
    """A pool that cannot be read."""

    def __getattr__(self, name):
        raise RuntimeError(name)


async def test_one_pool_that_cannot_be_read_does_not_lose_the_others(caplog):
    async with CommandPool(executor=Unready()) as unready, CommandPool() as pool:
        assert unready.health()
        seen = samples(registry_of({"broken": Unreadable(), "unready": unready, "good": pool}))
    assert "the figures of the pool 'broken' could not be read" in caplog.text
    assert {dict(labels)["pool"] for name, *labels in seen if name == "aiocmdpool_health"} == {"unready", "good"}


@pytest.mark.parametrize("kind", [sync.CommandPool, sync.CommandPoolSeg])
def test_pools_of_the_facade_are_scraped_on_a_loop(kind):
    async def scrape():
        return samples(registry_of({"good": pool}))

    with kind() as pool:
        pool.execute(CommandConfig("true"))
        seen = asyncio.run(scrape())
    assert seen["aiocmdpool_tasks_submitted_total", ("pool", "good")] == 1
    sync.shutdown()
