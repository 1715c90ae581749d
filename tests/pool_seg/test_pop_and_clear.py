"""Taking tasks off a queue that threads push to, and looks at the state of its pool."""

import asyncio

import pytest
from pool.support import InstantExecutor, named, settled, statuses

from aiocmdpool import ExecuteError, ExecutionConfig, ExecutionMode, TaskCancelled, TaskStatus
from aiocmdpool.pool.seg_pool import CommandPoolSeg

from .support import Thread, threads

PROCESS = ExecutionConfig(mode=ExecutionMode.PROCESS)


def test_without_a_loop_any_thread_pops_and_clears():
    pool = CommandPoolSeg(PROCESS)
    assert pool.is_empty()
    handles = pool.push_tasks([named(number) for number in range(4)])
    assert (len(pool), pool.is_empty(), pool.is_running()) == (4, False, False)
    assert pool.pop_task() == named(0)
    assert statuses(handles) == [TaskStatus.CANCELLED] + [TaskStatus.PENDING] * 3
    with pytest.raises(TaskCancelled, match=r"taken off the queue by pop_task\(\)"):
        handles[0].result(0)
    assert pool.clear() == 3
    assert (pool.clear(), pool.pop_task(), pool.is_empty()) == (0, None, True)
    assert {type(handle.exception(0)) for handle in handles} == {TaskCancelled}
    assert pool.statistics().cancelled == 4


async def test_threads_that_pop_before_the_start_get_each_task_once(new_pool, hasty):
    pool = new_pool()
    handles = pool.push_tasks([named(number) for number in range(200)])

    def pop(_: int) -> list[str]:
        return [command.program for command in iter(pool.pop_task, None)]

    popped = await threads(4, pop)
    assert sorted(name for each in popped for name in each) == sorted(map(str, range(200)))
    assert pool.statistics().cancelled == len(handles)


async def test_what_is_popped_on_the_loop_is_not_run(running_pool, held):
    pool = await running_pool(held)
    first, second, third, fourth = await Thread(pool.push_tasks, [named(name) for name in "abcd"])
    await held.holds("a")
    assert pool.is_running()
    assert pool.pop_task() == named("b")
    assert pool.clear() == 2
    assert (pool.is_empty(), pool.pop_task()) == (True, None)
    await settled([second, third, fourth])
    pool.push_task(named("e"))
    held.release("a")
    await held.holds("e")
    held.release("e")
    assert (await first).command == named("a")
    assert held.started == ["a", "e"]


@pytest.mark.parametrize("what", ["pop_task", "clear"])
async def test_another_thread_than_that_of_the_loop_is_told_how(running_pool, held, what):
    pool = await running_pool(held)
    pool.push_tasks([named("a"), named("b")])
    await held.holds("a")
    with pytest.raises(ExecuteError, match=r"loop\.call_soon_threadsafe"):
        await Thread(getattr(pool, what))
    assert len(pool) == 1


@pytest.mark.one_loop("asyncio", "uvloop")
async def test_a_pool_runs_between_start_and_stop(new_pool):
    pool = new_pool(InstantExecutor())
    assert not pool.is_running()
    await pool.start_executor()
    assert await Thread(pool.is_running)
    await pool.stop()
    assert (pool.is_running(), pool.is_stopped(), pool.pop_task(), pool.clear()) == (False, True, None, 0)


def test_when_its_loop_is_closed_nothing_is_left_to_pop():
    loop = asyncio.new_event_loop()
    pool = CommandPoolSeg(PROCESS, executor=InstantExecutor())
    loop.run_until_complete(pool.start_executor())
    handle = pool.push_task(named("a"))
    loop.close()
    assert (pool.pop_task(), pool.clear(), pool.is_running()) == (None, 0, False)
    assert handle.cancelled()
