"""A handle in the thread that pushed it, in other threads, and on loops."""

import asyncio
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from contract.support import outcome
from pool.support import InstantExecutor, named, quiet, settled

from aiocmdpool import CommandResult, ExecuteError, TaskCancelled, TaskHandle, TaskStatus
from aiocmdpool.commands.errors import ConfigError
from aiocmdpool.commands.result import EndReason

from .support import Thread, blocked_in, threads

if TYPE_CHECKING:
    from aiocmdpool.tasks.thread_handle import SegTaskHandle


@pytest.fixture
async def pool(running_pool, held):
    """A pool that runs one command at a time, each until it is released."""
    return await running_pool(held)


# -- waiting in a thread ------------------------------------------------------------------------------------------


async def test_a_thread_waits_for_the_result(pool, held):
    handle = await Thread(pool.push_task, named("a"))
    assert isinstance(handle, TaskHandle)
    waiting = Thread(handle.result)
    await blocked_in(handle)
    assert not waiting.done()
    held.release("a")
    result = await waiting
    assert isinstance(result, CommandResult)
    assert await Thread(handle.result) is result is handle.result() is await handle
    assert await Thread(handle.exception) is None


async def test_many_threads_wait_for_one_task(pool, held):
    handle = pool.push_task(named("a"))
    await held.holds("a")
    waiting = [Thread(handle.result, 20) for _ in range(10)]
    await blocked_in(handle, 10)
    held.release("a")
    assert {id(await thread) for thread in waiting} == {id(handle.result())}


async def test_a_thread_that_waits_gets_the_error(pool, held):
    handle = pool.push_task(named("a"))
    await held.holds("a")
    waiting, asking = Thread(handle.result), Thread(handle.exception)
    await blocked_in(handle, 2)
    error = ExecuteError("no luck")
    held.fail("a", error)
    assert await outcome(waiting.result()) is error
    assert await asking is error


async def test_a_timeout_of_the_wait_leaves_the_task_alone(pool, held):
    handle = pool.push_task(named("a"))
    await held.holds("a")
    for seconds in (0, 0.01):
        for wait in (handle.result, handle.exception):
            error = await outcome(Thread(wait, seconds).result())
            assert type(error) is TimeoutError
            assert "running 'a'" in str(error)
    assert handle._listeners == []  # nothing is kept of those who gave up
    assert handle.status is TaskStatus.RUNNING
    held.release("a")
    assert await Thread(handle.result, 20) is await handle


@pytest.mark.parametrize("wrong", [-1, "1", float("nan")])
async def test_a_wrong_timeout_is_refused(pool, wrong):
    handle = pool.push_task(named("a"))
    error = await outcome(Thread(handle.result, wrong).result())
    assert isinstance(error, ConfigError)


async def test_a_loop_is_never_blocked(pool, held):
    """Not the pool's, which would wait for itself, and no other."""
    handle = pool.push_task(named("a"))
    with pytest.raises(asyncio.InvalidStateError, match="await it first"):
        handle.result()
    with pytest.raises(asyncio.InvalidStateError, match="await it first"):
        handle.exception(5)

    async def on_another_loop() -> None:
        handle.result()

    error = await outcome(Thread(asyncio.run, on_another_loop()).result())
    assert isinstance(error, asyncio.InvalidStateError)
    held.release("a")
    await settled([handle])


async def test_waiting_races_with_settling(running_pool, hasty):
    """Whoever begins to wait as the task is settled is not forgotten."""
    pool = await running_pool(InstantExecutor(), limit=2)
    handles: list[SegTaskHandle] = []

    def wait(_: int) -> int:
        return sum(handle.result(20).ok for handle in list(handles))

    for _ in range(40):
        handles[:] = pool.push_tasks([named("a")] * 20)
        assert await threads(4, wait) == [20] * 4


# -- on loops -----------------------------------------------------------------------------------------------------


async def test_awaiting_on_the_loop_of_the_pool(pool, held):
    handle = await Thread(pool.push_task, named("a"))
    awaits = [asyncio.ensure_future(handle) for _ in range(3)]
    await held.holds("a")
    awaits[0].cancel()
    assert isinstance(await outcome(awaits[0]), asyncio.CancelledError)
    assert handle.status is TaskStatus.RUNNING
    assert len(handle._listeners) == 2
    held.release("a")
    assert await awaits[1] is await awaits[2] is await handle


async def test_awaiting_on_another_loop(pool, held):
    handle = pool.push_task(named("a"))
    await held.holds("a")

    async def await_it() -> CommandResult:
        return await handle

    waiting = Thread(asyncio.run, await_it())
    await blocked_in(handle)
    held.release("a")
    assert await waiting is await handle


async def test_a_loop_that_awaited_and_is_gone_does_not_matter(pool, held):
    handle = pool.push_task(named("a"))
    await held.holds("a")

    async def begin_to_wait() -> None:
        handle._waiter()

    await Thread(asyncio.run, begin_to_wait())
    assert len(handle._listeners) == 1
    held.release("a")
    assert (await handle).ok


async def test_awaiting_before_the_start(new_pool):
    pool = new_pool(InstantExecutor())
    handle = pool.push_task(named("a"))
    waiting = [asyncio.ensure_future(handle), Thread(handle.result)]
    await blocked_in(handle, 2)
    await pool.start_executor()
    assert (await waiting[0]) is (await waiting[1])


# -- cancelling ---------------------------------------------------------------------------------------------------


async def test_a_thread_cancels_a_pending_task(pool, held):
    running, handle = pool.push_tasks([named("a"), named("b")])
    await held.holds("a")
    waiting = Thread(handle.result)
    await blocked_in(handle)
    assert await Thread(handle.cancel)
    error = await outcome(waiting.result())
    assert isinstance(error, TaskCancelled)
    assert error.end_reason is EndReason.CANCELLED
    assert handle.cancelled()
    assert not await Thread(handle.cancel)
    held.release("a")
    await settled([running])
    assert held.started == ["a"]


async def test_a_thread_cancels_a_running_task(pool, held):
    handle = pool.push_task(named("a"))
    await held.holds("a")
    assert await Thread(handle.cancel)
    assert isinstance(await outcome(Thread(handle.result, 20).result()), TaskCancelled)
    assert held.ended == ["a"]
    assert pool.statistics().cancelled == 1


async def test_cancelling_on_the_loop_settles_a_pending_task_at_once(pool, held):
    _, handle = pool.push_tasks([named("a"), named("b")])
    await held.holds("a")
    assert handle.cancel()
    assert handle.cancelled()
    assert not handle.cancel()


async def test_cancelling_before_the_start_settles_at_once(new_pool):
    """There is no loop yet that could do it."""
    executor = InstantExecutor()
    pool = new_pool(executor)
    gone, here, kept = pool.push_tasks([named("gone"), named("here"), named("kept")])
    waiting = Thread(gone.result)
    await blocked_in(gone)
    assert await Thread(gone.cancel)
    assert here.cancel()
    assert gone.cancelled()
    assert here.cancelled()
    assert isinstance(await outcome(waiting.result()), TaskCancelled)
    assert len(pool) == 1
    await pool.start_executor()
    assert (await kept).ok
    assert executor.started == ["kept"]


async def test_cancelling_races_with_the_start(new_pool, hasty):
    for _ in range(30):
        executor = InstantExecutor()
        pool = new_pool(executor)
        handles = pool.push_tasks([named(number) for number in range(50)])
        cancelling = asyncio.ensure_future(threads(2, lambda _, mine=handles: [handle.cancel() for handle in mine]))
        await asyncio.sleep(0.0005)
        await pool.start_executor()
        await cancelling
        await pool.stop()
        assert all(handle.done() for handle in handles)
        counts = pool.statistics()
        assert counts.submitted == counts.completed + counts.cancelled == 50
        assert len(executor.started) == sum(handle.started_at is not None for handle in handles)


async def test_many_threads_cancel_one_task(pool, held, hasty):
    running = pool.push_task(named("a"))
    await held.holds("a")
    for _ in range(50):
        handle = pool.push_task(named("b"))
        await threads(4, lambda _, handle=handle: handle.cancel())
        await settled([handle])
    assert pool.statistics().cancelled == 50
    held.release("a")
    await settled([running])


# -- being called back --------------------------------------------------------------------------------------------


async def test_callbacks_are_called_on_the_loop_whoever_registered_them(pool, held):
    handle = pool.push_task(named("a"))
    called = []

    def callback(given: TaskHandle) -> None:
        called.append((given, threading.current_thread()))

    handle.add_done_callback(callback)
    await Thread(handle.add_done_callback, callback)
    await Thread(handle.add_done_callback, len)
    assert await Thread(handle.remove_done_callback, len) == 1
    assert handle.remove_done_callback(len) == 0
    await held.holds("a")
    held.release("a")
    await settled([handle])
    await Thread(handle.add_done_callback, callback)
    await quiet()
    assert called == [(handle, threading.main_thread())] * 3


async def test_callbacks_before_the_start_are_called_by_who_settles(new_pool, caplog):
    pool = new_pool(InstantExecutor())
    handle = pool.push_task(named("a"))
    called = []
    handle.add_done_callback(lambda _: 1 / 0)
    handle.add_done_callback(called.append)
    assert await Thread(handle.cancel)
    assert called == [handle]
    assert "division by zero" in caplog.text


async def test_asking_costs_nothing_and_a_handle_is_small(new_pool):
    """Nothing to wait with is made before somebody waits."""
    pool = new_pool(InstantExecutor())
    handle = pool.push_task(named("a"))
    assert not handle.done()
    assert (handle._listeners, handle._waiters, handle._callbacks) == (None, None, None)
    assert sys.getsizeof(handle) < 250
    assert not hasattr(handle, "__dict__")
    assert handle.pushed_at <= time.monotonic()
    assert repr(handle) == f"<TaskHandle {handle.id} pending 'a'>"
