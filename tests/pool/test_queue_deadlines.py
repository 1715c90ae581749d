"""`queue_timeout`: how long a task may wait before it runs; and that neither deadline counts the time of the other."""

import asyncio

import pytest
from contract.support import FOREVER, helper, outcome

from aiocmdpool import CommandConfig, CommandPool, CommandTimeout, EndReason, ExecutionConfig, TaskStatus

from .support import named, quiet, settled, statuses

pytestmark = pytest.mark.slow

SHORT = 0.03  # seconds: a queue deadline that is to pass


async def test_a_task_that_waits_too_long_never_runs(running_pool, held):
    pool = await running_pool(held)
    await pool.push_task(named("a"))
    await held.holds("a")
    command = named("b", label="the late one")
    handle = await pool.push_task(command, queue_timeout=SHORT)
    with pytest.raises(
        CommandTimeout, match=r"the late one: waited in the queue longer than its queue_timeout of 0.03 s"
    ):
        await handle
    error = handle.exception()
    assert (error.command, error.result, error.end_reason) == (command, None, EndReason.QUEUE_TIMEOUT)
    assert isinstance(error, TimeoutError)
    assert (handle.status, handle.started_at) == (TaskStatus.FAILED, None)
    assert (pool.statistics().failed, pool.statistics().timed_out) == (1, 1)
    held.release("a")
    await quiet()
    assert held.started == ["a"]


async def test_it_counts_before_the_pool_is_started(new_pool, held):
    pool = new_pool(held)
    handle = pool.try_push_task(named("a"), queue_timeout=SHORT)
    assert isinstance(await outcome(handle), CommandTimeout)
    await pool.start_executor()
    await quiet()
    assert held.started == []


async def test_its_place_goes_to_the_next_pusher(new_pool):
    pool = new_pool(max_size=1)
    pool.try_push_task(named("a"), queue_timeout=SHORT)
    handle = await pool.push_task(named("b"))
    assert len(pool) == 1
    assert pool.pop_task() is handle.command


async def test_waiting_for_a_permit_is_waiting(running_pool, held):
    """Off the queue already, but somebody else holds the permits."""
    permits = asyncio.Semaphore(1)
    await permits.acquire()
    pool = await running_pool(held, permits=permits)
    handles = [await pool.push_task(named("a"), queue_timeout=SHORT), await pool.push_task(named("b"))]
    await quiet()
    assert len(pool) == 1
    assert isinstance(await outcome(handles[0]), CommandTimeout)
    assert len(pool) == 1
    permits.release()
    await held.holds("b")
    held.release("b")
    await settled(handles)
    assert held.started == ["b"]
    assert not permits.locked()


async def test_waiting_for_room_does_not_count(new_pool):
    """The deadline is the task's, and there is no task before there is room for it."""
    pool = new_pool(max_size=1)
    clock = pool.try_push_task(named("clock"), queue_timeout=3 * SHORT)
    handle = await pool.push_task(named("a"), queue_timeout=2 * SHORT)
    assert clock.done()
    assert handle.status is TaskStatus.PENDING
    assert isinstance(await outcome(handle), CommandTimeout)


async def test_it_does_not_end_a_task_that_runs(running_pool, held):
    pool = await running_pool(held)
    handle = await pool.push_task(named("a"), queue_timeout=10 * SHORT)  # it has begun by then
    await held.holds("a")
    clock = await pool.push_task(named("clock"), queue_timeout=11 * SHORT)
    await settled([clock])
    assert handle.status is TaskStatus.RUNNING
    held.release("a")
    assert (await handle).ok


async def test_a_cancelled_task_does_not_expire_any_more(new_pool):
    pool = new_pool()
    handle, clock = pool.try_push_tasks(map(named, ["a", "clock"]), queue_timeout=SHORT)
    handle.cancel()
    await settled([clock])
    assert statuses([handle, clock]) == [TaskStatus.CANCELLED, TaskStatus.FAILED]
    assert pool.statistics().timed_out == 1
    assert len(pool) == 0


async def test_a_popped_task_does_not_expire_any_more(new_pool):
    pool = new_pool()
    handle, clock = pool.try_push_tasks(map(named, ["a", "clock"]), queue_timeout=SHORT)
    pool.pop_task()
    await settled([clock])
    assert statuses([handle, clock]) == [TaskStatus.CANCELLED, TaskStatus.FAILED]


async def test_many_expire_and_the_rest_runs_in_order(running_pool, held):
    pool = await running_pool(held)
    await pool.push_task(named("first"))
    await held.holds("first")
    doomed, rest = [], []
    for number in range(300):
        doomed.append(pool.try_push_task(named(f"doomed-{number}"), queue_timeout=SHORT))
        rest.append(pool.try_push_task(named(number)))
    await settled(doomed)
    assert len(pool) == 300
    held.release("first")
    for number in range(300):
        await held.holds(number)
        held.release(number)
    await settled(rest)
    assert held.started == ["first", *map(str, range(300))]


async def test_execute_takes_a_queue_deadline(running_pool, held):
    pool = await running_pool(held)
    await pool.push_task(named("a"))
    await held.holds("a")
    with pytest.raises(CommandTimeout):
        await pool.execute(named("b"), queue_timeout=SHORT)
    assert held.started == ["a"]


async def let_run_without_waiting(pool, held):
    await quiet()
    handle = await pool.push_task(named("a"), queue_timeout=0)
    await quiet()
    assert handle.status is TaskStatus.RUNNING
    held.release("a")
    assert (await handle).ok


@pytest.mark.one_loop("asyncio", "asyncio-debug")
async def test_zero_lets_a_task_run_that_does_not_have_to_wait(running_pool, held):
    await let_run_without_waiting(await running_pool(held), held)


@pytest.mark.one_loop("uvloop")
async def test_zero_lets_a_task_run_that_does_not_have_to_wait_on_uvloop_too(running_pool, held):
    await let_run_without_waiting(await running_pool(held), held)


# -- with programs: the two deadlines do not count each other's time (piscina#869) -------------------------------


async def test_the_time_in_the_queue_is_no_run_time(backend, ready, release):
    async with CommandPool(ExecutionConfig(concurrency_limit=1), executor=backend) as pool:
        first = await pool.push_task(helper("close_pipes_live_on", ready.path, release.path))
        handle = await pool.push_task(CommandConfig("true", timeout=1.5))  # a busy machine may take 0.4 s
        clock = await pool.push_task(CommandConfig("true"), queue_timeout=1.6)
        await settled([clock])
        release.send()
        result = await handle
        assert result.ok
        assert result.queued > 1.5 > result.duration
        assert (await first).returncode == 9


async def test_run_time_is_no_time_in_the_queue(backend, ready, release):
    async with CommandPool(ExecutionConfig(concurrency_limit=1), executor=backend) as pool:
        handle = await pool.push_task(
            helper("close_pipes_live_on", ready.path, release.path, timeout=FOREVER), queue_timeout=0.2
        )
        await ready.wait()
        clock = await pool.push_task(CommandConfig("true"), queue_timeout=0.25)
        await settled([clock])
        release.send()
        assert (await handle).returncode == 9


async def test_a_run_deadline_passes_after_the_start(backend):
    async with CommandPool(ExecutionConfig(concurrency_limit=1), executor=backend) as pool:
        with pytest.raises(CommandTimeout) as caught:
            await pool.execute(CommandConfig("sleep", [str(FOREVER)], timeout=0.05))
        assert caught.value.end_reason is EndReason.TIMEOUT
        assert caught.value.result is not None
        assert pool.statistics().timed_out == 1
