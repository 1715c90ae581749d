"""Permits: how many commands run at once, in one pool and in several that share a semaphore."""

import asyncio

import pytest
from contract.support import outcome

from aiocmdpool import ConfigError, ExecuteError, ExecutionConfig, TaskStatus

from .support import HeldExecutor, InstantExecutor, named, quiet, settled, statuses


async def assert_all_returned(permits, count):
    """That exactly so many permits can be had."""
    for _ in range(count):
        assert not permits.locked()
        await permits.acquire()
    assert permits.locked()


@pytest.mark.parametrize("limit", [1, 2, 7])
async def test_as_many_run_at_once_as_the_limit_says(running_pool, limit):
    executor = InstantExecutor()
    pool = await running_pool(executor, limit=limit)
    await asyncio.gather(*await pool.push_tasks(map(named, range(100))))
    assert executor.most == limit


@pytest.mark.parametrize(("workers", "expected"), [(1, 1), (2, 2), (9, 3), (None, 3)])
async def test_workers_take_tasks_and_permits_let_them_run(new_pool, held, workers, expected):
    pool = new_pool(held, limit=3)
    await pool.start_executor(workers=workers)
    handles = await pool.push_tasks(map(named, range(20)))
    await quiet()
    assert statuses(handles).count(TaskStatus.RUNNING) == len(held.held) == expected
    assert len(pool) == 20 - (workers or 3)
    assert pool.statistics().queued == 20 - expected


async def test_pools_that_share_permits_run_no_more_than_there_are(running_pool):
    executor, permits = InstantExecutor(), asyncio.Semaphore(3)
    pools = [await running_pool(executor, limit=limit, permits=permits) for limit in (2, 4, 5)]
    handles = [handle for pool in pools for handle in await pool.push_tasks(map(named, range(60)))]
    await settled(handles)
    assert executor.most == 3
    assert set(statuses(handles)) == {TaskStatus.COMPLETED}
    await assert_all_returned(permits, 3)


async def test_a_pool_that_shares_permits_keeps_its_own_limit(running_pool):
    executor = InstantExecutor()
    pool = await running_pool(executor, limit=2, permits=asyncio.Semaphore(9))
    await asyncio.gather(*await pool.push_tasks(map(named, range(30))))
    assert executor.most == 2


async def test_permits_may_be_shared_with_other_code(running_pool, held):
    permits = asyncio.Semaphore(1)
    pool = await running_pool(held, permits=permits)
    async with permits:
        handle = await pool.push_task(named("a"))
        await quiet()
        assert (handle.status, held.held) == (TaskStatus.PENDING, [])
        assert (len(pool), pool.statistics().queued) == (0, 1)
    await held.holds("a")
    assert permits.locked()
    held.release("a")
    await handle
    assert not permits.locked()


async def test_every_end_returns_its_permit(running_pool, held):
    permits = asyncio.Semaphore(2)
    pool = await running_pool(held, limit=2, permits=permits)
    for number in range(5):
        good, bad, cancelled, expired = [
            await pool.push_task(named(f"{name}-{number}"), queue_timeout=limit)
            for name, limit in {"good": None, "bad": None, "cancelled": None, "expired": 0.01}.items()
        ]
        await held.holds(f"good-{number}", f"bad-{number}")
        await settled([expired])
        held.release(f"good-{number}")
        held.fail(f"bad-{number}", ExecuteError("bad"))
        await held.holds(f"cancelled-{number}")
        cancelled.cancel()
        await settled([good, bad, cancelled])
    await quiet()
    await assert_all_returned(permits, 2)


async def test_a_task_that_is_cancelled_while_it_waits_takes_no_permit(running_pool, held):
    permits = asyncio.Semaphore(1)
    await permits.acquire()
    pool = await running_pool(held, limit=2, permits=permits)
    handles = await pool.push_tasks(map(named, "abc"))
    await quiet()
    handles[0].cancel()
    assert handles[0].status is TaskStatus.CANCELLED
    assert len(pool) == 1
    permits.release()
    await held.holds("b")
    assert held.started == ["b"]
    held.release("b")
    await held.holds("c")
    held.release("c")
    await settled(handles)
    await quiet()
    await assert_all_returned(permits, 1)


async def test_a_permit_that_arrives_with_a_cancellation_is_not_lost(running_pool, held):
    permits = asyncio.Semaphore(1)
    for cancel_first in (True, False):
        await permits.acquire()
        pool = await running_pool(held, permits=permits)
        handle = await pool.push_task(named("a"))
        await quiet()
        for step in (handle.cancel, permits.release) if cancel_first else (permits.release, handle.cancel):
            step()
        await quiet()
        assert handle.status is TaskStatus.CANCELLED
        assert held.started == []
        assert not permits.locked()


async def test_a_stop_returns_all_permits(running_pool, held):
    permits = asyncio.Semaphore(2)
    pool = await running_pool(held, limit=4, permits=permits)
    await pool.push_tasks(map(named, "abcdef"))
    await held.holds("a", "b")
    await pool.stop(drain=False)
    await assert_all_returned(permits, 2)


async def test_one_pool_cannot_starve_another(running_pool):
    """Permits go to those who have waited longest."""
    permits, first, second = asyncio.Semaphore(1), HeldExecutor(), HeldExecutor()
    greedy = await running_pool(first, permits=permits)
    await greedy.push_tasks(map(named, "abc"))
    await first.holds("a")
    modest = await running_pool(second, permits=permits)
    handle = await modest.push_task(named("x"))
    await quiet()
    first.release("a")
    await second.holds("x")
    assert first.held == []
    second.release("x")
    assert (await handle).ok


@pytest.mark.parametrize("limit", [0, -1, 2.5, "2", True])
def test_a_wrong_limit_is_refused(limit):
    with pytest.raises(ConfigError, match=r"concurrency_limit: .* is not a whole number >= 1"):
        ExecutionConfig(concurrency_limit=limit)


async def test_permits_that_are_no_semaphore_are_refused(new_pool):
    with pytest.raises(ConfigError, match="permits"):
        new_pool(permits=5)


@pytest.mark.one_loop
async def test_permits_of_another_loop_are_an_error_that_says_so(running_pool, held):
    permits = asyncio.Semaphore(0)

    async def use():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(permits.acquire(), 0)
        waiting = asyncio.ensure_future(permits.acquire())
        await asyncio.sleep(0)
        waiting.cancel()

    await asyncio.to_thread(asyncio.run, use())
    pool = await running_pool(held, permits=permits)
    handle = await pool.push_task(named("a"))
    assert isinstance(await outcome(handle), RuntimeError)
