"""Health: what speaks against a pool, and how much."""

import asyncio
import contextlib
import os
import signal
from unittest.mock import AsyncMock, Mock

import pytest
from contract.support import sh
from pool.support import HeldExecutor, named
from process_pool.support import until

from aiocmdpool import CommandConfig, CommandPool, ConfigError, ExecutionConfig, ProcessPool, ProcessPoolBackend
from aiocmdpool.backends.workers.statistics import ProcessPoolStatistics
from aiocmdpool.observability.health import HealthState, PoolFacts, assess
from aiocmdpool.observability.prometheus import PoolCollector
from aiocmdpool.policies import KeyLimit, Retry

from .support import hold, settled


def worker_counts(**known):
    counts = dict.fromkeys(("workers", "wanted", "in_flight", "completed", "lost", "recycled", "failures"), 0)
    return ProcessPoolStatistics(**{**counts, "pids": (), **known})


def facts(**known):
    healthy = {
        "started": True,
        "stopped": False,
        "queued": 0,
        "max_size": 100,
        "workers": None,
        "running": (),
        "now": 1000.0,
    }
    return PoolFacts(**{**healthy, **known})


def verdict(queue_use=0.9, long_running=600.0, **known):
    health = assess(facts(**known), queue_use=queue_use, long_running=long_running)
    assert bool(health.reasons) == (health.state is not HealthState.HEALTHY)
    assert bool(health) == (health.state is not HealthState.UNHEALTHY)
    return health.state, "; ".join(health.reasons)


@pytest.mark.parametrize(
    ("known", "state", "reason"),
    [
        ({}, HealthState.HEALTHY, ""),
        ({"started": False}, HealthState.UNHEALTHY, "the pool is not started"),
        ({"stopped": True}, HealthState.UNHEALTHY, "the pool is stopped"),
        ({"queued": 89}, HealthState.HEALTHY, ""),
        ({"queued": 90}, HealthState.DEGRADED, "the queue is 90% full: 90 of 100 tasks"),
        ({"queued": 90, "queue_use": None}, HealthState.HEALTHY, ""),
        ({"queued": 10**6, "max_size": None}, HealthState.HEALTHY, ""),
        ({"workers": worker_counts(wanted=2)}, HealthState.HEALTHY, ""),  # none was needed yet
        ({"workers": worker_counts(wanted=2, workers=2, completed=5)}, HealthState.HEALTHY, ""),
        (
            {"workers": worker_counts(wanted=2, workers=1, completed=5)},
            HealthState.DEGRADED,
            "1 of 2 workers are alive",
        ),
        (
            {"workers": worker_counts(wanted=2, failures=3)},
            HealthState.UNHEALTHY,
            "0 of 2 workers are alive; the last 3 died before they were ready",
        ),
        ({"workers": worker_counts(wanted=2, workers=2, failures=3, completed=1)}, HealthState.HEALTHY, ""),
        (
            {"stopped": True, "queued": 100},
            HealthState.UNHEALTHY,
            "the pool is stopped; the queue is 100% full: 100 of 100 tasks",
        ),
    ],
)
def test_the_judgement(known, state, reason):
    assert verdict(**known) == (state, reason)


async def test_long_running_tasks(running_pool):
    held = HeldExecutor()
    pool = await running_pool(executor=held, limit=2)
    first, second = await pool.push_tasks(map(named, "ab"))
    await held.holds("a", "b")
    first.started_at, second.started_at = -700.0, -500.0  # seconds of a clock that starts with the system
    running = pool._tasks.running()
    assert set(running) == {first, second}
    assert verdict(running=running, long_running=1800) == (HealthState.HEALTHY, "")
    assert verdict(running=running, long_running=None) == (HealthState.HEALTHY, "")
    state, reason = verdict(running=running, long_running=1400)
    assert state is HealthState.DEGRADED
    assert reason == f"2 running for more than 1400 s; the longest, task {first.id}, a, for 1700 s"
    assert pool.health(long_running=0.0).long_running == 2
    held.release("a", "b")
    await settled(first, second)


async def test_the_life_of_a_pool():
    pool = CommandPool(ExecutionConfig(workers=1))
    assert pool.worker_statistics() is None
    assert pool.health().state is HealthState.UNHEALTHY
    async with pool:
        fresh = pool.health()
        assert (fresh.state, fresh.workers, fresh.workers_wanted, fresh.queue_use) == (HealthState.HEALTHY, 0, 1, 0.0)
        await pool.execute(sh("exit 0"))
        used = pool.health()
        assert (used.state, used.reasons, used.workers) == (HealthState.HEALTHY, (), 1)
    assert pool.health().state is HealthState.UNHEALTHY


async def test_the_queue_of_a_pool(running_pool, ready, release):
    pool = await running_pool(max_size=4)
    running = await pool.push_task(hold(ready, release))
    await ready.wait()
    waiting = [pool.try_push_task(sh("exit 0")) for _ in range(3)]
    assert pool.health().queue_use == 0.75
    assert pool.health().state is HealthState.HEALTHY
    assert pool.health(queue_use=0.75).state is HealthState.DEGRADED
    release.send()
    await settled(running, *waiting)


async def test_workers_that_die_and_come_back(running_pool, ready, release):
    pool = await running_pool()
    await pool.execute(sh("exit 0"))
    running = await pool.push_task(hold(ready, release))
    await ready.wait()
    os.kill(pool.worker_statistics().pids[0], signal.SIGKILL)
    await settled(running)
    assert pool.worker_statistics().lost == 1
    assert pool.health().state is HealthState.HEALTHY  # another one has been started


async def test_workers_that_cannot_be_started(running_pool, monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    pool = await running_pool()
    task = asyncio.ensure_future(pool.execute(sh("exit 0")))
    await until(lambda: pool.health().state is HealthState.UNHEALTHY)
    assert pool.health().workers == 0
    assert "0 of 1 workers are alive" in pool.health().reasons[0]
    monkeypatch.undo()
    task.cancel()
    await asyncio.wait([task])


async def test_a_process_pool_as_an_executor(running_pool):
    async with ProcessPool(1) as workers:
        pool = await running_pool(executor=workers)
        await pool.execute(sh("exit 0"))
        assert pool.worker_statistics() == workers.statistics()
        assert pool.health().workers_wanted == 1


async def test_an_executor_without_workers(running_pool):
    pool = await running_pool(executor=HeldExecutor())
    assert pool.worker_statistics() is None
    assert (pool.health().state, pool.health().workers) == (HealthState.HEALTHY, None)


@pytest.mark.parametrize("wrong", [{"queue_use": 90}, {"queue_use": -0.1}, {"long_running": -1}])
async def test_thresholds_are_checked(running_pool, wrong):
    pool = await running_pool()
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        pool.health(**wrong)


@pytest.mark.parametrize("depth", [0, 1, 4])
async def test_the_workers_are_seen_through_whatever_stands_in_front_of_them(depth):
    async with ProcessPoolBackend(1) as backend, contextlib.AsyncExitStack() as pools:
        executor = backend
        for number in range(depth):
            executor = KeyLimit(Retry(executor), 4)
            if number == 2:
                executor = await pools.enter_async_context(CommandPool(executor=executor))
        async with CommandPool(executor=executor) as pool:
            await pool.execute(CommandConfig("true"))
            assert pool.worker_statistics() == backend.pool.statistics()
            assert (pool.health().workers, pool.health().workers_wanted) == (1, 1)
            backend.pool._crew.size += 1
            assert pool.health().state is HealthState.DEGRADED
            figures = {metric.name: metric for metric in PoolCollector(pool).collect()}
            assert [sample.value for sample in figures["aiocmdpool_workers_wanted"].samples] == [2]


async def test_executors_that_lead_back_or_never_end_have_no_workers():
    class Loop:
        async def execute(self, command):
            raise NotImplementedError

        @property
        def executor(self):
            return self

    for executor in (Loop(), Mock(execute=AsyncMock())):
        pool = CommandPool(executor=executor)
        assert pool.worker_statistics() is None
        await pool.stop()
