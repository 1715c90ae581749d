"""Priorities: who goes first when a place to run comes free."""

import asyncio
import random

import pytest

from .support import InstantExecutor, drained_queue, named, settled


async def test_higher_goes_first(new_pool):
    pool = new_pool()
    for name, priority in {"low": -5, "normal": 0, "high": 7, "higher": 8}.items():
        pool.try_push_task(named(name), priority=priority)
    assert drained_queue(pool) == ["higher", "high", "normal", "low"]


async def test_equal_ones_go_in_the_order_of_their_pushes(new_pool):
    pool = new_pool()
    pool.try_push_tasks(map(named, "abc"), priority=1)
    pool.try_push_tasks(map(named, "de"), priority=2)
    pool.try_push_tasks(map(named, "fg"), priority=1)
    assert drained_queue(pool) == ["d", "e", "a", "b", "c", "f", "g"]


async def test_the_default_is_zero(new_pool):
    pool = new_pool()
    assert pool.try_push_task(named("a")).priority == 0


@pytest.mark.parametrize("seed", range(5))
async def test_tasks_run_in_the_order_of_a_stable_sort(new_pool, seed):
    luck = random.Random(seed)
    executor = InstantExecutor()
    pool = new_pool(executor)
    handles = [pool.try_push_task(named(number), priority=luck.randrange(-3, 4)) for number in range(300)]
    await pool.start_executor()
    await settled(handles)
    expected = sorted(handles, key=lambda handle: -handle.priority)
    assert executor.started == [handle.command.program for handle in expected]


async def test_a_late_one_overtakes_those_that_wait_but_not_those_that_run(running_pool, held):
    pool = await running_pool(held)
    running, waiting = await pool.push_tasks(map(named, ["running", "waiting"]))
    await held.holds("running")
    urgent = await pool.push_task(named("urgent"), priority=9)
    assert held.held == ["running"]
    held.release("running")
    await held.holds("urgent")
    held.release("urgent")
    await held.holds("waiting")
    held.release("waiting")
    await settled([running, waiting, urgent])


async def test_every_way_to_push_takes_a_priority(running_pool, held):
    pool = await running_pool(held)
    await pool.push_task(named("first"))
    await held.holds("first")
    await pool.push_tasks(map(named, "a"), priority=1)
    pool.try_push_tasks(map(named, "b"), priority=2)
    await pool.push_task(named("c"), priority=3)
    pool.try_push_task(named("d"), priority=4)
    assert drained_queue(pool) == ["d", "c", "b", "a"]


async def test_execute_takes_a_priority(running_pool, held):
    pool = await running_pool(held)
    await pool.push_tasks(map(named, ["running", "waiting"]))
    await held.holds("running")
    urgent = asyncio.create_task(pool.execute(named("urgent"), priority=1))
    await asyncio.sleep(0)
    held.release("running")
    await held.holds("urgent")
    held.release("urgent")
    assert (await urgent).ok
