"""`TaskHandle`: awaiting it, asking it, being called back by it."""

import asyncio
import gc
import itertools

import pytest
from contract.support import outcome

from aiocmdpool import CommandConfig, CommandResult, ExecuteError, TaskCancelled, TaskStatus

from .support import living, named, quiet, result_of, settled


@pytest.fixture
async def pool(running_pool, held):
    """A pool that runs one command at a time, each until it is released."""
    return await running_pool(held)


@pytest.fixture
async def loop_errors():
    """What the exception handler of the loop is told; for tests which expect that."""
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    return told


# -- awaiting -----------------------------------------------------------------------------------------------------


async def test_awaiting_gives_the_result(pool, held):
    command = named("a")
    handle = await pool.push_task(command)
    await held.holds("a")
    held.release("a")
    result = await handle
    assert isinstance(result, CommandResult)
    assert result.command is command
    assert await handle is result is handle.result()


async def test_many_may_await_and_all_get_the_same(pool, held):
    handle = await pool.push_task(named("a"))
    awaits = [asyncio.ensure_future(handle) for _ in range(5)]
    await held.holds("a")
    held.release("a")
    results = await asyncio.gather(*awaits, handle)
    assert {id(result) for result in results} == {id(handle.result())}


async def test_many_may_await_and_all_get_the_error(pool, held):
    handle = await pool.push_task(named("a"))
    awaits = [asyncio.ensure_future(handle) for _ in range(5)]
    await held.holds("a")
    error = ExecuteError("no luck")
    held.fail("a", error)
    assert await asyncio.gather(*awaits, return_exceptions=True) == [error] * 5
    assert await outcome(handle) is error


async def test_cancelling_an_await_leaves_the_task_running(pool, held):
    handle = await pool.push_task(named("a"))
    awaits = [asyncio.ensure_future(handle) for _ in range(3)]
    await held.holds("a")
    awaits[1].cancel()
    assert isinstance(await outcome(awaits[1]), asyncio.CancelledError)
    assert handle.status is TaskStatus.RUNNING
    held.release("a")
    assert (await awaits[0]).ok
    assert (await awaits[2]).ok


async def test_cancelling_an_await_leaves_a_task_in_the_queue(pool, held):
    await pool.push_task(named("a"))
    handle = await pool.push_task(named("b"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(handle, 0.01)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await handle
    assert handle.status is TaskStatus.PENDING
    held.release("a")
    await held.holds("b")
    held.release("b")
    assert (await handle).ok


async def test_an_await_that_is_cancelled_as_the_task_ends_is_cancelled(running_pool):
    """Whoever cancelled is not left without their `CancelledError`, and the result stays."""
    awaits = []

    class Executor:
        async def execute(self, command):
            await quiet()
            # Due after the task is settled and before those who await it come to look.
            asyncio.get_running_loop().call_soon(awaits[0].cancel)
            return result_of(command)

    pool = await running_pool(Executor())
    handle = await pool.push_task(named("a"))
    awaits += [asyncio.ensure_future(handle), asyncio.ensure_future(handle)]
    assert isinstance(await outcome(awaits[0]), asyncio.CancelledError)
    assert (await awaits[1]).ok
    assert (await handle).ok


@pytest.mark.one_loop
async def test_awaits_that_were_cancelled_are_not_kept(pool, held):
    """Such as those of callers who ask again and again whether the task is done yet."""
    handle = await pool.push_task(named("a"))
    await held.holds("a")
    before = living(asyncio.Future)
    for _ in range(200):
        waiting = asyncio.ensure_future(handle)
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    del waiting
    assert living(asyncio.Future) - before < 10
    held.release("a")
    assert (await handle).ok


async def test_a_task_that_nobody_awaits_ends_silently(pool, held):
    handle = await pool.push_task(named("a"))
    await held.holds("a")
    held.fail("a", ExecuteError("nobody cares"))
    await settled([handle])
    del handle
    gc.collect()
    await quiet()
    assert pool.statistics().failed == 1


# -- asking -------------------------------------------------------------------------------------------------------


async def test_the_life_of_a_task(pool, held):
    first = await pool.push_task(named("first"))
    handle = await pool.push_task(named("a"))
    await held.holds("first")
    assert (handle.status, handle.done(), handle.cancelled(), handle.started_at) == (
        TaskStatus.PENDING,
        False,
        False,
        None,
    )
    held.release("first")
    await held.holds("a")
    assert (handle.status, handle.done(), handle.cancelled()) == (TaskStatus.RUNNING, False, False)
    assert handle.started_at >= handle.pushed_at
    held.release("a")
    await settled([handle, first])
    assert (handle.status, handle.done(), handle.cancelled()) == (TaskStatus.COMPLETED, True, False)


async def test_a_task_that_is_not_settled_has_neither_result_nor_error(pool, held):
    handle = await pool.push_task(named("a"))
    for when in ("pending", "running"):
        with pytest.raises(asyncio.InvalidStateError, match=f"{when} 'a'> is not settled yet; await it first"):
            handle.result()
        with pytest.raises(asyncio.InvalidStateError, match="not settled"):
            handle.exception()
        await held.holds("a")


async def test_what_a_settled_task_says(pool, held):
    good, bad, gone = await pool.push_tasks(map(named, ["good", "bad", "gone"]))
    gone.cancel()
    await held.holds("good")
    held.release("good")
    await held.holds("bad")
    error = ExecuteError("bad")
    held.fail("bad", error)
    await settled([good, bad, gone])
    assert good.exception() is None
    assert good.result().ok
    assert bad.exception() is error
    with pytest.raises(ExecuteError, match="bad"):
        bad.result()
    assert isinstance(gone.exception(), TaskCancelled)
    with pytest.raises(TaskCancelled, match="gone: cancelled before it started"):
        gone.result()
    assert [handle.cancelled() for handle in (good, bad, gone)] == [False, False, True]


async def test_ids_are_unique_and_grow(new_pool):
    pools = [new_pool(), new_pool()]
    ids = [pool.try_push_task(named("a")).id for pool, _ in itertools.product(pools, range(50))]
    assert ids == sorted(set(ids))


async def test_queued_counts_until_the_start(pool, held):
    handle = await pool.push_task(named("a"))
    assert 0 <= handle.queued <= handle.queued
    await held.holds("a")
    queued = handle.queued
    assert queued == handle.started_at - handle.pushed_at
    clock = await pool.push_task(named("clock"), queue_timeout=0.01)
    await settled([clock])
    held.release("a")
    assert (await handle).queued == handle.queued == queued


async def test_errors_say_how_long_the_command_was_queued(pool, held):
    await pool.push_task(named("first"))
    handle = await pool.push_task(named("a"))
    await settled([await pool.push_task(named("clock"), queue_timeout=0.01)])
    held.release("first")
    await held.holds("a")
    result = result_of(handle.command, returncode=1)
    held.fail("a", ExecuteError("bad", result=result))
    error = await outcome(handle)
    assert error.result == result.with_queued(handle.queued)
    assert handle.queued > 0


async def test_queued_stops_when_the_task_leaves_the_queue(pool, held):
    await pool.push_task(named("a"))
    handle = await pool.push_task(named("b"), queue_timeout=0.01)
    await settled([handle])
    queued = handle.queued
    await settled([await pool.push_task(named("clock"), queue_timeout=0.01)])
    assert handle.queued == queued


async def test_repr_shows_the_live_state(pool, held):
    first = await pool.push_task(named("first"))
    handle = await pool.push_task(CommandConfig("echo", ["a b", "c" * 100]))
    assert repr(handle).startswith(f"<TaskHandle {handle.id} pending \"echo 'a b' ccc")
    assert len(repr(handle)) < 100
    await held.holds("first")
    assert repr(first) == f"<TaskHandle {first.id} running 'first'>"
    held.release("first")
    handle.cancel()
    await first
    assert repr(first) == f"<TaskHandle {first.id} completed 'first'>"
    assert " cancelled " in repr(handle)


# -- done callbacks -----------------------------------------------------------------------------------------------


async def test_callbacks_are_called_once_in_order_with_the_handle(pool, held):
    handle = await pool.push_task(named("a"))
    called = []
    for number in range(4):
        handle.add_done_callback(lambda task, number=number: called.append((number, task, task.status)))
    await held.holds("a")
    await quiet()
    assert called == []
    held.release("a")
    await handle
    await quiet()
    assert called == [(number, handle, TaskStatus.COMPLETED) for number in range(4)]


async def test_callbacks_are_called_whatever_the_end(pool, held):
    failed, cancelled, expired = (
        await pool.push_task(named("failed")),
        await pool.push_task(named("cancelled")),
        await pool.push_task(named("expired"), queue_timeout=0.01),
    )
    called = []
    for handle in (failed, cancelled, expired):
        handle.add_done_callback(called.append)
    await settled([expired])
    cancelled.cancel()
    await held.holds("failed")
    held.fail("failed", ExecuteError("bad"))
    await settled([failed])
    await quiet()
    assert called == [expired, cancelled, failed]


async def test_a_callback_is_called_by_the_loop_and_not_inside_cancel(new_pool):
    handle = new_pool().try_push_task(named("a"))
    called = []
    handle.add_done_callback(called.append)
    handle.cancel()
    handle.add_done_callback(called.append)
    assert called == []
    await quiet()
    assert called == [handle, handle]


async def test_a_removed_callback_is_not_called(new_pool):
    handle = new_pool().try_push_task(named("a"))
    called = []

    def other(_):
        called.append("other")

    assert handle.remove_done_callback(called.append) == 0
    for callback in (called.append, other, called.append):
        handle.add_done_callback(callback)
    assert handle.remove_done_callback(called.append) == 2
    assert handle.remove_done_callback(called.append) == 0
    handle.cancel()
    await quiet()
    assert called == ["other"]
    assert handle.remove_done_callback(other) == 0


async def test_an_exception_in_a_callback_is_told_to_the_loop_and_hurts_nobody(pool, held, loop_errors):
    handle = await pool.push_task(named("a"))
    called, error = [], ValueError("from a callback")

    def fail(_):
        raise error

    for callback in (fail, called.append, fail):
        handle.add_done_callback(callback)
    await held.holds("a")
    held.release("a")
    await handle
    await quiet()
    assert called == [handle]
    assert loop_errors == [error, error]
    next_one = await pool.push_task(named("b"))
    await held.holds("b")
    held.release("b")
    assert (await next_one).ok


async def test_a_callback_may_push_and_cancel(pool, held):
    first, second = await pool.push_tasks(map(named, "ab"))
    pushed = []

    def follow(_):
        second.cancel()
        pushed.append(pool.try_push_task(named("c")))

    first.add_done_callback(follow)
    await held.holds("a")
    # The runner takes b in the turn in which the callback comes: it is cancelled there, wherever it is.
    held.release("a")
    await held.holds("c")
    held.release("c")
    assert (await pushed[0]).ok
    assert isinstance(await outcome(second), TaskCancelled)
