"""A pool belongs to one loop: what others get who use it, and what becomes of its tasks when that loop ends."""

import asyncio
import threading

import pytest
from contract.loops import LOOPS
from contract.support import outcome

from aiocmdpool import (
    CommandConfig,
    CommandPool,
    CommandPoolSeg,
    ExecuteError,
    ExecutionConfig,
    ExecutionMode,
    PoolClosed,
    TaskCancelled,
    TaskStatus,
)
from aiocmdpool.pool.runners import AT_ONCE

from .support import PATIENCE, HeldExecutor, InstantExecutor, named, quiet, settled, soon

ELSEWHERE = "this pool belongs to another event loop"
POOLS = [CommandPool, CommandPoolSeg]


@pytest.fixture(params=list(LOOPS))
def run(request):
    """Run a coroutine on a loop of its own, each time another one."""

    def run(coroutine):
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(coroutine)

    return run


def in_a_thread(make_coroutine):
    """What comes of a coroutine on a loop in another thread."""
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(asyncio.run(outcome(make_coroutine()))))
    thread.start()
    thread.join(PATIENCE)
    return outcomes[0]


# -- another loop -----------------------------------------------------------------------------------------------------


USES = {
    "push_task": lambda pool, handle: pool.push_task(named("a")),
    "push_tasks": lambda pool, handle: pool.push_tasks([named("a")]),
    "execute": lambda pool, handle: pool.execute(named("a")),
    "map": lambda pool, handle: anext(pool.map([named("a")])),
    "start": lambda pool, handle: pool.start_executor(),
    "stop": lambda pool, handle: pool.stop(drain=False),
    "await": lambda pool, handle: awaits(handle),
    "cancel": lambda pool, handle: calls(handle.cancel),
    "clear": lambda pool, handle: calls(pool.clear),
    "pop_task": lambda pool, handle: calls(pool.pop_task),
    "try_push_task": lambda pool, handle: calls(lambda: pool.try_push_task(named("a"))),
    "try_push_tasks": lambda pool, handle: calls(lambda: pool.try_push_tasks([named("a")])),
}


async def awaits(handle):
    return await handle


async def calls(function):
    return function()


@pytest.mark.parametrize("use", list(USES))
async def test_a_loop_in_another_thread_gets_a_clear_error_and_does_no_harm(running_pool, held, use):
    pool = await running_pool(held)
    handles = await pool.push_tasks(map(named, "ab"))
    await held.holds("a")
    error = in_a_thread(lambda: USES[use](pool, handles[1]))
    assert isinstance(error, ExecuteError)
    assert "belongs to another event loop" in str(error)
    assert [handle.status for handle in handles] == [TaskStatus.RUNNING, TaskStatus.PENDING]
    for name in "ab":
        await held.holds(name)
        held.release(name)
    await settled(handles)
    assert pool.statistics().completed == pool.statistics().submitted == 2


@pytest.mark.parametrize("mode", ["PROCESS", "PROCESS_POOL"])
def test_a_second_loop_gets_a_clear_error(run, mode):
    """As with a pool at module level, and a loop for each test or each request."""
    pool = CommandPool(ExecutionConfig(mode=ExecutionMode[mode], concurrency_limit=2))

    async def first():
        await pool.start_executor()
        return (await pool.execute(CommandConfig("echo", ["1"]))).stdout

    async def second():
        for use in ("start", "execute", "push_task", "try_push_task", "map"):
            error = await soon(outcome(USES[use](pool, None)))
            assert isinstance(error, PoolClosed)
            assert str(error).startswith(f"{ELSEWHERE}, which is closed; make a new pool for each loop")
        await soon(pool.stop(drain=False))  # which ends the workers
        await soon(pool.stop())

    assert run(first()) == b"1\n"
    assert not pool.health()
    run(second())
    assert pool.is_stopped()


def test_a_pool_that_was_only_made_belongs_to_nobody(run):
    async def make():
        return CommandPool(ExecutionConfig(concurrency_limit=1), executor=InstantExecutor())

    async def use(pool):
        async with pool:
            return await pool.execute(named("a"))

    assert run(use(run(make()))).ok


# -- the end of the loop ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("is_started", [True, False])
def test_tasks_that_are_pending_when_their_loop_ends_are_settled(run, kind, is_started):
    handles = []
    told = []

    async def push():
        pool = kind(ExecutionConfig(concurrency_limit=1), executor=executor)
        push = pool.try_push_task if kind is CommandPool else pool.push_task
        handles.extend(push(named(name)) for name in "abc")
        handles[2].add_done_callback(told.append)
        if is_started:
            await pool.start_executor()
            await executor.holds("a")
        return pool

    executor = HeldExecutor()
    pool = run(push())
    if kind is CommandPoolSeg and not is_started:
        assert [handle.status for handle in handles] == [TaskStatus.PENDING] * 3  # it belongs to no loop yet
        for handle in handles:
            handle.cancel()
    assert [handle.status for handle in handles] == [TaskStatus.CANCELLED] * 3
    assert {type(handle.exception()) for handle in handles} == {TaskCancelled}
    assert told == [handles[2]]
    now = pool.statistics()
    assert (now.queued, now.running, now.cancelled, len(pool)) == (0, 0, 3, 0)
    assert not is_started or "the event loop of the pool has ended" in pool.health().reasons[0]


@pytest.mark.parametrize("kind", POOLS)
async def test_who_cancels_all_tasks_and_goes_on_gets_an_error_from_the_pool(kind):
    """As hosts do that end a loop by hand; the runners end, since somebody may wait for them."""
    executor = InstantExecutor()
    pool = kind(ExecutionConfig(concurrency_limit=2), executor=executor)
    await pool.start_executor()
    await pool.execute(named("a"))
    others = [task for task in asyncio.all_tasks() if task.get_name().startswith("aiocmdpool")]
    for task in others:
        task.cancel()
    await soon(asyncio.wait(others))
    await quiet()
    assert isinstance(await soon(outcome(pool.execute(named("b")))), PoolClosed)
    assert not pool.health()
    await soon(pool.stop())
    assert executor.started == ["a"]


def test_a_stop_that_was_in_the_middle_when_its_loop_was_closed_can_be_repeated(run):
    executor = HeldExecutor()
    loop = LOOPS["asyncio"]()
    handles = []

    async def begin():
        pool = CommandPool(ExecutionConfig(concurrency_limit=1), executor=executor)
        await pool.start_executor()
        handles.extend(await pool.push_tasks(map(named, "ab")))
        await executor.holds("a")
        stopping.append(asyncio.ensure_future(pool.stop()))
        await quiet()
        return pool

    async def stop_again():
        await soon(pool.stop())

    stopping = []
    pool = loop.run_until_complete(begin())
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # that they were left is what this is about
    loop.close()
    assert [handle.status for handle in handles] == [TaskStatus.CANCELLED] * 2
    run(stop_again())


@pytest.mark.parametrize("kind", POOLS)
def test_a_pool_with_many_running_tasks_can_be_stopped_after_its_loop_was_closed(run, kind):
    """Running tasks are cancelled in slices over iterations of a loop, and there are none any more."""
    executor = HeldExecutor()
    names = [str(number) for number in range(AT_ONCE + 2)]

    async def begin():
        pool = kind(ExecutionConfig(concurrency_limit=len(names)), executor=executor)
        await pool.start_executor()
        push = pool.try_push_task if kind is CommandPool else pool.push_task
        handles = [push(named(name)) for name in names]
        await executor.holds(*names)
        return pool, handles

    async def stop():
        await soon(pool.stop())

    loop = LOOPS["asyncio"]()
    pool, handles = loop.run_until_complete(begin())
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # that they were left is what this is about
    loop.close()
    run(stop())
    assert {handle.status for handle in handles} == {TaskStatus.CANCELLED}


@pytest.mark.parametrize("make", [CommandPool, CommandPoolSeg])
def test_a_callback_that_raises_where_no_loop_runs_keeps_nobody_from_being_told(make):
    told = []

    def fail(handle):
        raise asyncio.CancelledError

    async def begin():
        pool = make(executor=HeldExecutor())
        handles = []
        for number in range(10):
            handle = pool.push_task(named(str(number)))
            handles.append(handle if make is CommandPoolSeg else await handle)
        handles[3].add_done_callback(fail)
        for handle in handles:
            handle.add_done_callback(told.append)
        if make is CommandPoolSeg:
            await pool.start_executor()
        return pool, handles

    loop = asyncio.new_event_loop()
    pool, handles = loop.run_until_complete(begin())
    waits = [threading.Thread(target=handle.exception) for handle in handles if make is CommandPoolSeg]
    for thread in waits:
        thread.start()
    loop.close()
    for thread in waits:
        thread.join(20)
        assert not thread.is_alive()
    assert sorted(told, key=lambda handle: handle.id) == handles
    assert pool.statistics().cancelled == 10
