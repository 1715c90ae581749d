"""Latencies of a pool: of all its tasks, and of no more than them."""

import os
import signal

import pytest
from contract.support import sh

from aiocmdpool import CommandConfig

from .support import Recorder, hold, settled

pytestmark = pytest.mark.slow


async def test_they_are_those_of_the_events(running_pool):
    seen = Recorder()
    pool = await running_pool(seen, limit=2)
    handles = await pool.push_tasks(sh("exit 0") for _ in range(20))
    await settled(*handles)
    latencies, ends = pool.latencies(), [seen.finished(handle) for handle in handles]
    for histogram, values in (
        (latencies.queue, [end.queued for end in ends]),
        (latencies.spawn, [end.spawn for end in ends]),
        (latencies.run, [end.run for end in ends]),
    ):
        assert histogram.count == 20
        assert histogram.shortest == min(values)
        assert histogram.longest == max(values)
        assert abs(histogram.total - sum(values)) < 1e-6


async def test_they_are_counted_without_anything_switched_on(running_pool):
    pool = await running_pool()
    assert pool.latencies().run.count == 0
    await pool.execute(sh("exit 0"))
    assert pool.latencies().run.count == 1


async def test_a_task_counts_as_far_as_it_came(running_pool, ready, release):
    pool = await running_pool()
    running = await pool.push_task(hold(ready, release))
    await ready.wait()
    waiting = await pool.push_task(sh("exit 0"))
    waiting.cancel()
    assert (pool.latencies().queue.count, pool.latencies().run.count) == (1, 0)
    release.send()
    await running
    await settled(await pool.push_task(CommandConfig("no-such-program-here")))
    now = pool.latencies()
    assert (now.queue.count, now.spawn.count, now.run.count) == (2, 1, 1)


async def test_a_run_that_was_ended_counts(running_pool, ready, release):
    pool = await running_pool()
    running = await pool.push_task(hold(ready, release))
    await ready.wait()
    running.cancel()
    await settled(running)
    assert pool.latencies().run.count == 1


async def test_a_run_that_was_lost_does_not(running_pool, ready, release):
    """How long it took, nobody knows."""
    pool = await running_pool()
    running = await pool.push_task(hold(ready, release))
    await ready.wait()
    os.kill(pool.worker_statistics().pids[0], signal.SIGKILL)
    await settled(running)
    assert (pool.latencies().queue.count, pool.latencies().run.count) == (1, 0)
