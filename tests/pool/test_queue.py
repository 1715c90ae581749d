"""The queue: what counts against its bound, what withdrawn tasks leave in it, and what a place in it costs."""

import asyncio
import gc
import random
import statistics
import time
import tracemalloc

import pytest

from aiocmdpool import TaskCancelled, TaskHandle, TaskStatus

from .support import InstantExecutor, drained_queue, living, named, quiet, statuses

pytestmark = pytest.mark.slow

MANY = 100_000


@pytest.fixture
def without_collector():
    """The garbage collector looks through everything that waits now and then, which is no cost of a push."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def test_the_length_counts_what_waits_and_not_what_runs(running_pool, held):
    pool = await running_pool(held)
    assert len(pool) == 0
    handles = await pool.push_tasks(map(named, "abc"))
    assert len(pool) == 3
    await held.holds("a")
    assert len(pool) == 2
    handles[2].cancel()
    assert len(pool) == 1
    held.release("a")
    await held.holds("b")
    assert len(pool) == 0


async def test_an_empty_pool_is_true(new_pool):
    pool = new_pool()
    assert pool
    assert len(pool) == 0


@pytest.mark.parametrize("max_size", [1, 7, None])
async def test_max_size_is_what_was_asked_for(new_pool, max_size):
    assert new_pool(max_size=max_size).max_size == max_size


# -- withdrawn tasks --------------------------------------------------------------------------------------------


async def test_a_withdrawn_task_gives_its_place_back_at_once(new_pool):
    pool = new_pool(max_size=2)
    handles = await pool.push_tasks(map(named, "ab"))
    assert handles[0].cancel()
    assert len(pool) == 1
    pool.try_push_task(named("c"))
    assert drained_queue(pool) == ["b", "c"]


async def test_a_withdrawn_task_never_runs(running_pool, held):
    pool = await running_pool(held)
    handles = await pool.push_tasks(map(named, "abcd"))
    await held.holds("a")
    handles[1].cancel()
    handles[3].cancel()
    held.release("a")
    await held.holds("c")
    held.release("c")
    await quiet()
    assert held.started == ["a", "c"]
    assert statuses(handles) == [TaskStatus.COMPLETED, TaskStatus.CANCELLED] * 2


async def test_a_runner_that_finds_only_withdrawn_tasks_waits_for_others(running_pool):
    """The task that woke it is cancelled before it comes to look."""
    executor = InstantExecutor()
    pool = await running_pool(executor)
    await quiet()
    (await pool.push_task(named("a"))).cancel()
    await quiet()
    await pool.execute(named("b"))
    assert executor.started == ["b"]
    assert len(pool) == 0


@pytest.mark.one_loop
@pytest.mark.parametrize(
    ("order", "count"),
    [("oldest first", 10_000), ("newest first", 10_000), ("at random", MANY), ("one by one", 10_000)],
)
async def test_withdrawn_tasks_are_not_kept(new_pool, order, count):
    before = living(TaskHandle)
    pool = new_pool(max_size=None)
    alive = pool.try_push_task(named("alive"))
    if order == "one by one":
        for _ in range(count):
            pool.try_push_task(named("a")).cancel()
    else:
        handles = [pool.try_push_task(named("a")) for _ in range(count)]
        if order == "newest first":
            handles.reverse()
        elif order == "at random":
            random.Random(1).shuffle(handles)
        for handle in handles:
            handle.cancel()
        del handles, handle
    assert living(TaskHandle) - before < 200
    assert len(pool) == 1
    assert drained_queue(pool) == [alive.command.program]


@pytest.mark.parametrize("seed", range(5))
async def test_sweeping_withdrawn_tasks_out_keeps_the_order(new_pool, seed):
    luck = random.Random(seed)
    pool = new_pool(max_size=None)
    kept = []
    for number in range(2000):
        handle = pool.try_push_task(named(number), priority=luck.randrange(4))
        kept.append(handle)
        while kept and luck.random() < 0.47:
            kept.pop(luck.randrange(len(kept))).cancel()
    kept.sort(key=lambda handle: -handle.priority)
    assert len(pool) == len(kept) > 20
    assert drained_queue(pool) == [handle.command.program for handle in kept]


# -- pop_task and clear -----------------------------------------------------------------------------------------


async def test_pop_task_takes_the_next_command(new_pool):
    pool = new_pool(max_size=2)
    command = named("b")
    pool.try_push_task(named("a"))
    handle = pool.try_push_task(command, priority=1)
    assert pool.pop_task() is command
    assert handle.status is TaskStatus.CANCELLED
    with pytest.raises(TaskCancelled, match="pop_task"):
        await handle
    assert drained_queue(pool) == ["a"]


async def test_pop_task_of_an_empty_queue_gives_none(new_pool):
    pool = new_pool()
    assert pool.pop_task() is None
    pool.try_push_task(named("a")).cancel()
    assert pool.pop_task() is None


async def test_pop_task_makes_room_for_a_pusher(new_pool):
    pool = new_pool(max_size=1)
    pool.try_push_task(named("a"))
    pusher = asyncio.create_task(pool.push_task(named("b")))
    await quiet()
    assert pool.pop_task() == named("a")
    await pusher
    assert pool.pop_task() == named("b")


async def test_a_popped_task_does_not_run_here(running_pool, held):
    pool = await running_pool(held)
    await pool.push_tasks(map(named, "abc"))
    await held.holds("a")
    assert pool.pop_task() == named("b")
    held.release("a")
    await held.holds("c")
    assert held.started == ["a", "c"]


async def test_clear_cancels_what_waits_and_says_how_many(running_pool, held):
    pool = await running_pool(held)
    handles = await pool.push_tasks(map(named, "abcd"))
    await held.holds("a")
    handles[3].cancel()
    assert pool.clear() == 2
    assert statuses(handles) == [TaskStatus.RUNNING] + [TaskStatus.CANCELLED] * 3
    with pytest.raises(TaskCancelled, match="cleared"):
        await handles[1]
    assert pool.clear() == len(pool) == 0
    held.release("a")
    assert (await handles[0]).ok


# -- cost -------------------------------------------------------------------------------------------------------


@pytest.mark.one_loop("asyncio", "uvloop")
async def test_a_push_costs_the_same_whatever_waits_already(new_pool, without_collector):
    command = named("a")

    def growth() -> float:
        pool = new_pool(max_size=None)
        costs = []
        for _ in range(MANY // 1000):
            started = time.perf_counter()
            for _ in range(1000):
                pool.try_push_task(command)
            costs.append(time.perf_counter() - started)
        tenth = len(costs) // 10
        pool.clear()
        return statistics.median(costs[-tenth:]) / statistics.median(costs[:tenth])

    # A busy machine may spoil one measurement, not all of them.
    assert any(growth() < 3 for _ in range(4))


@pytest.mark.one_loop
async def test_a_waiting_task_takes_little_memory(new_pool):
    count, command = 20_000, named("a")
    pool = new_pool(max_size=None)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(count):
            pool.try_push_task(command)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / count < 1024  # bytes


@pytest.mark.one_loop
async def test_settled_tasks_are_not_kept(running_pool):
    """Of a pool that has run for long nothing is left but the numbers."""
    before = living(TaskHandle)
    pool = await running_pool(InstantExecutor(), limit=4, max_size=10, history=10)
    for number in range(2000):
        await pool.push_task(named(number))
    async with asyncio.timeout(20):
        while pool.statistics().completed < 2000:
            await asyncio.sleep(0)
    assert living(TaskHandle) - before < 20
    assert len(pool.tracker) == 10


@pytest.mark.one_loop
async def test_a_pool_with_nothing_to_do_never_wakes_the_loop(new_pool, running_pool, held, monkeypatch):
    """Neither idle runners, nor a pusher who waits for room, nor a task that waits for a permit."""
    idle = await running_pool(limit=4)
    permits = asyncio.Semaphore(0)
    stuck = await running_pool(held, max_size=1, permits=permits)
    pusher = asyncio.create_task(stuck.push_tasks(map(named, "abc")))
    busy = await running_pool(held)
    running = await busy.push_task(named("d"), queue_timeout=3600)
    await held.holds("d")
    await quiet()

    loop = asyncio.get_running_loop()
    wake_ups = 0
    select = loop._selector.select

    def counted_select(timeout=None):
        nonlocal wake_ups
        wake_ups += 1
        return select(timeout)

    monkeypatch.setattr(loop._selector, "select", counted_select)
    await asyncio.sleep(0.3)
    # One select before the timer is due; the kernel may end it a little early.
    assert wake_ups < 5
    assert (pusher.done(), len(stuck), len(idle), running.status) == (False, 1, 0, TaskStatus.RUNNING)
    pusher.cancel()
    await asyncio.wait([pusher])


async def test_a_pool_says_whether_it_is_empty_and_whether_it_runs(new_pool, held):
    pool = new_pool(held)
    assert (pool.is_empty(), pool.is_running()) == (True, False)
    pool.try_push_task(named("a"))
    pool.try_push_task(named("b"))
    assert not pool.is_empty()
    await pool.start_executor()
    await held.holds("a")
    assert (pool.is_empty(), pool.is_running()) == (False, True)
    assert pool.clear() == 1
    assert (pool.is_empty(), pool.is_running()) == (True, True)
    held.release("a")
    await pool.stop()
    assert (pool.is_empty(), pool.is_running()) == (True, False)
