"""Queues of many tasks: what ends them all does so a slice at a time, and the loop goes on in between."""

import asyncio

import pytest

from aiocmdpool import CommandPool, CommandPoolSeg, ExecutionConfig, TaskCancelled, TaskStatus
from aiocmdpool.pool import clearing, priority_queue

from .support import HeldExecutor, InstantExecutor, named, quiet, settled, soon, statuses

MANY = 3000


@pytest.fixture
def no_time(monkeypatch):
    """A turn of the loop is over after one look at the clock."""
    ticks = iter(range(10**9))
    monkeypatch.setattr(clearing, "perf_counter", lambda: next(ticks) / 2000)  # two looks are one slice of 0.001 s


@pytest.fixture(params=["clear", "stop", "cancelled stop", "seg"])
async def ending(request):
    """A pool with many tasks, and a coroutine function that ends them all."""
    kind = CommandPoolSeg if request.param == "seg" else CommandPool
    pool = kind(ExecutionConfig(concurrency_limit=1), executor=HeldExecutor(), max_size=None)
    push = pool.push_task if kind is CommandPoolSeg else pool.try_push_task
    handles = [push(named("a")) for _ in range(MANY)]
    await pool.start_executor()

    async def end():
        if request.param == "clear":
            assert pool.clear() in (MANY, MANY - 1)
            assert len(pool) == 0
            await settled(handles[1:])
        elif request.param == "cancelled stop":
            stopping = asyncio.create_task(pool.stop())
            await quiet()
            stopping.cancel()
            await asyncio.wait([stopping])
        else:
            await pool.stop(drain=False)

    yield pool, handles, end
    await soon(pool.stop(drain=False))


async def test_no_more_than_a_slice_is_cancelled_in_one_turn(ending, no_time):
    pool, handles, end = ending
    await quiet()
    task, steps, before = asyncio.create_task(end()), [], pool.statistics().cancelled
    while not task.done():
        await asyncio.sleep(0)
        now = pool.statistics().cancelled
        steps.append(now - before)
        before = now
    await task
    assert max(steps) <= 3 * clearing.BATCH
    assert sum(steps) >= MANY - 1
    assert all(isinstance(handle.exception(), TaskCancelled) for handle in handles[1:])
    assert handles[5].exception() is handles[5].exception()


async def test_what_is_pushed_while_the_queue_is_cleared_is_run(running_pool, no_time):
    executor = InstantExecutor()
    permits = asyncio.Semaphore(1)
    await permits.acquire()
    pool = await running_pool(executor, max_size=MANY, permits=permits)
    handles = [pool.try_push_task(named("old")) for _ in range(MANY)]
    await quiet()
    active = 1  # waits for the permit
    assert pool.clear() == MANY - active
    assert pool.statistics().queued > MANY / 2  # they are still to be settled
    news = [pool.try_push_task(named("new"), priority=-1) for _ in range(MANY)]  # all the room is there
    assert pool.clear() == MANY
    last = pool.try_push_task(named("last"))
    permits.release()
    assert (await soon(last)).ok
    await soon(settled([*handles, *news]))
    assert set(statuses([*handles[active:], *news])) == {TaskStatus.CANCELLED}
    assert executor.started == ["old", "last"]
    assert (len(pool), pool.statistics().queued) == (0, 0)


async def test_one_of_many_that_are_being_cleared_may_be_cancelled(new_pool, no_time):
    pool = new_pool(max_size=MANY)
    handles = [pool.try_push_task(named("a"), queue_timeout=60) for _ in range(MANY)]
    pool.clear()
    handles[-1].cancel()
    assert "cancelled before it started" in str(handles[-1].exception())
    for _ in range(MANY):  # its place is given back once
        pool.try_push_task(named("b"))
    assert len(pool) == MANY
    await soon(settled(handles))


async def test_a_hook_may_clear_while_the_queue_is_cleared(no_time):
    def hook(event):
        if type(event).__name__ == "TaskFinished":
            pool.clear()

    pool = CommandPool(ExecutionConfig(concurrency_limit=1), executor=InstantExecutor(), max_size=None, hooks=[hook])
    handles = [pool.try_push_task(named("a")) for _ in range(MANY)]
    pool.clear()
    await soon(settled(handles))
    await soon(pool.stop())
    assert pool.statistics().cancelled == MANY


def test_a_queue_that_is_cleared_while_no_loop_runs_is_cleared_at_once(no_time):
    async def push():
        return [pool.try_push_task(named("a")) for _ in range(MANY)]

    pool = CommandPool(max_size=None)
    with asyncio.Runner() as runner:
        handles = runner.run(push())
        assert pool.clear() == MANY
        assert set(statuses(handles)) == {TaskStatus.CANCELLED}


async def test_pushers_are_refused_a_few_in_each_turn(running_pool, held):
    pool = await running_pool(held, max_size=1)
    await pool.push_tasks([named("a"), named("b")])
    pushers = [asyncio.create_task(pool.push_task(named("c"))) for _ in range(1000)]
    await quiet()
    stopping = asyncio.create_task(pool.stop(drain=False))
    done = most = 0
    while not all(pusher.done() for pusher in pushers):
        await asyncio.sleep(0)
        now = sum(pusher.done() for pusher in pushers)
        most, done = max(most, now - done), now
    assert most <= 2 * priority_queue._REFUSED_AT_ONCE
    await soon(stopping)
    assert {type(pusher.exception()).__name__ for pusher in pushers} == {"PoolClosed"}


async def test_leaving_a_map_cancels_what_is_in_flight_in_slices(running_pool, held, monkeypatch):
    from aiocmdpool.pool import mapping

    ticks = iter(range(10**9))
    monkeypatch.setattr(mapping, "perf_counter", lambda: next(ticks) / 100)
    pool = await running_pool(held, max_size=None)
    results = pool.map((named(n) for n in range(500)), in_flight=500)
    first = asyncio.ensure_future(anext(results))
    await held.holds(0)
    held.release(0)
    await first
    leaving = asyncio.create_task(results.aclose())
    before, most = pool.statistics().cancelled, 0
    while not leaving.done():
        await asyncio.sleep(0)
        now = pool.statistics().cancelled
        most, before = max(most, now - before), now
    assert most <= 3
    await leaving
    assert pool.statistics().queued == 0
