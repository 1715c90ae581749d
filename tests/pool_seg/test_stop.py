"""The end of a pool: whatever threads do meanwhile, every task is settled once and nobody is left waiting."""

import asyncio
import contextlib

import pytest
from contract.support import outcome
from pool.support import InstantExecutor, StubbornExecutor, assert_counts_add_up, named, quiet, soon

from aiocmdpool import ExecuteError, TaskCancelled, TaskStatus
from aiocmdpool.commands.errors import PoolClosed
from aiocmdpool.commands.result import EndReason
from aiocmdpool.pool.seg_pool import CommandPoolSeg

from .support import Thread, blocked_in, threads


async def test_stopping_runs_what_is_in_the_queue(running_pool):
    executor = InstantExecutor()
    pool = await running_pool(executor)
    handles = pool.push_tasks([named(number) for number in range(50)])
    waiting = Thread(handles[-1].result)
    await pool.stop()
    assert (await waiting).ok
    assert executor.started == [str(number) for number in range(50)]
    assert pool.is_stopped()
    assert_counts_add_up(pool, handles)


async def test_stopping_without_draining_wakes_the_threads_that_wait(running_pool, held):
    pool = await running_pool(held)
    handles = pool.push_tasks([named("running"), named("pending")])
    await held.holds("running")
    waiting = [Thread(handle.result) for handle in handles]
    for handle in handles:
        await blocked_in(handle)
    await soon(pool.stop(drain=False))
    for thread in waiting:
        error = await outcome(thread.result())
        assert isinstance(error, TaskCancelled)
        assert error.end_reason is EndReason.CLOSED
    assert held.started == held.ended == ["running"]
    assert_counts_add_up(pool, handles)


async def test_draining_has_its_time(running_pool, held):
    pool = await running_pool(held)
    handles = pool.push_tasks([named("running"), named("pending")])
    waiting = Thread(handles[1].result)
    await soon(pool.stop(timeout=0.02))
    assert isinstance(await outcome(waiting.result()), TaskCancelled)
    assert {handle.status for handle in handles} == {TaskStatus.CANCELLED}


async def test_cancelling_the_last_pending_task_ends_the_draining(running_pool, held):
    pool = await running_pool(held)
    running, pending = pool.push_tasks([named("running"), named("pending")])
    await held.holds("running")
    stopping = asyncio.ensure_future(pool.stop())
    await quiet()
    await Thread(pending.cancel)
    held.release("running")
    await soon(stopping)
    assert (running.status, pending.status) == (TaskStatus.COMPLETED, TaskStatus.CANCELLED)


async def test_a_stopped_pool_takes_nothing(running_pool):
    pool = await running_pool(InstantExecutor())
    await pool.stop()
    await pool.stop()
    for push in (lambda: pool.push_task(named("a")), lambda: pool.push_tasks([named("a")])):
        error = await outcome(Thread(push).result())
        assert isinstance(error, PoolClosed)
        assert error.command == named("a")
    with pytest.raises(PoolClosed):
        await pool.start_executor()
    with pytest.raises(PoolClosed):
        await pool.execute(named("a"))
    assert (len(pool), pool.statistics().submitted) == (0, 0)


async def test_stopping_before_the_start_wakes_the_threads_that_wait(new_pool):
    pool = new_pool(InstantExecutor())
    handle = pool.push_task(named("a"))
    waiting = Thread(handle.result)
    await blocked_in(handle)
    await soon(pool.stop())
    assert isinstance(await outcome(waiting.result()), TaskCancelled)


@pytest.mark.parametrize("drain", [True, False])
async def test_pushes_that_race_with_the_stop_are_refused_or_settled(new_pool, hasty, drain):
    """Again and again: the moment at which a push can be forgotten is a short one."""
    for _ in range(15):
        pool = new_pool(InstantExecutor(), limit=2)
        await pool.start_executor()
        handles: list = []

        def push_until_closed(_: int, pool=pool, handles=handles) -> bool:
            try:
                while True:
                    handles.append(pool.push_task(named("a")))
                    if len(handles) % 100 == 0:
                        handles[-1].exception(20)
            except PoolClosed:
                return True

        pushing = asyncio.ensure_future(threads(3, push_until_closed))
        while len(handles) < 200:
            await asyncio.sleep(0)
        await pool.stop(drain=drain)
        assert await pushing == [True] * 3
        await quiet()  # what was pushed in the last moment is settled in the next turn
        assert all(handle.done() for handle in handles)
        if drain:
            assert sum(handle.cancelled() for handle in handles) <= 3
        assert_counts_add_up(pool, handles)
        assert len(pool) == 0


async def test_a_push_between_the_last_look_and_the_end_is_settled(running_pool):
    """The order made to happen: the pusher has found the pool open, and appends when the stop is over."""
    pool = await running_pool(InstantExecutor(), max_size=10)
    await pool.stop()
    queue = pool._queue
    refusal, queue.refusal = queue.refusal, None
    queue.check_room = lambda: setattr(queue, "refusal", refusal)  # as if the whole stop came in between
    handle = await Thread(pool.push_task, named("a"))
    error = await outcome(Thread(handle.result, 20).result())
    assert isinstance(error, TaskCancelled)
    assert len(pool) == 0


async def test_cancelling_a_stop_ends_everything_at_once(running_pool):
    executor = StubbornExecutor()
    pool = await running_pool(executor)
    handles = pool.push_tasks([named("running"), named("pending")])
    await executor.holds("running")
    stopping = asyncio.ensure_future(pool.stop())
    await quiet()
    stopping.cancel()
    await quiet()
    assert not stopping.done()
    executor.let_go.set()
    assert isinstance(await outcome(stopping), asyncio.CancelledError)
    assert {handle.status for handle in handles} == {TaskStatus.CANCELLED}


async def test_a_pool_belongs_to_the_loop_that_starts_it(running_pool, held):
    pool = await running_pool(held)
    for use in (pool.start_executor, pool.stop):
        error = await outcome(Thread(lambda use=use: asyncio.run(use())).result())
        assert type(error) is ExecuteError
        assert "another event loop" in str(error)
    assert not pool.is_stopped()
    running = Thread(lambda: asyncio.run(pool.execute(named("a"))))  # but commands may come from any
    await held.holds("a")
    held.release("a")
    assert (await running).ok


async def test_a_pool_may_be_made_and_fed_where_there_is_no_loop():
    pool, handle = await Thread(
        lambda: (made := CommandPoolSeg(executor=InstantExecutor()), made.push_task(named("a")))
    )
    async with pool:
        assert (await handle).ok
    assert pool.is_stopped()


async def test_an_error_in_the_context_ends_what_runs_at_once(new_pool, held):
    pool = new_pool(held)
    handle = pool.push_task(named("a"))
    with contextlib.suppress(ZeroDivisionError):
        async with pool:
            await held.holds("a")
            raise ZeroDivisionError
    assert handle.cancelled()


async def test_what_it_says_of_itself(new_pool, held):
    pool = new_pool(held)
    pool.push_task(named("a"))
    assert repr(pool) == "<CommandPoolSeg new, 1 queued, 0 running, 1 submitted>"
    await pool.start_executor()
    await held.holds("a")
    assert repr(pool) == "<CommandPoolSeg running, 0 queued, 1 running, 1 submitted>"
    assert bool(pool)
    assert pool.health()
    await pool.stop(drain=False)
    assert repr(pool) == "<CommandPoolSeg stopped, 0 queued, 0 running, 1 submitted>"
    assert not pool.health()
