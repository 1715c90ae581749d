"""Stopping: gently, in time, at once; by several at a time; while others push; and leaving `async with`."""

import asyncio

import pytest
from contract.support import helper, is_gone, outcome, returns_before_programs_end, sh

from aiocmdpool import CommandPool, EndReason, ExecutionConfig, PoolClosed, TaskCancelled, TaskStatus

from .support import (
    HeldExecutor,
    InstantExecutor,
    StubbornExecutor,
    assert_counts_add_up,
    named,
    quiet,
    settled,
    soon,
    statuses,
)

# -- draining -------------------------------------------------------------------------------------------------------


async def test_a_drain_runs_everything_in_the_queue(running_pool):
    executor = InstantExecutor()
    pool = await running_pool(executor, limit=2)
    handles = await pool.push_tasks(map(named, range(100)))
    await pool.stop()
    assert statuses(handles) == [TaskStatus.COMPLETED] * 100
    assert executor.started == [str(number) for number in range(100)]


async def test_a_drain_returns_when_the_last_command_has_ended(running_pool, held):
    pool = await running_pool(held)
    handles = await pool.push_tasks(map(named, "ab"))
    stopping = asyncio.create_task(pool.stop())
    for name in "ab":
        await held.holds(name)
        await quiet()
        assert not stopping.done()
        held.release(name)
    await stopping
    assert statuses(handles) == [TaskStatus.COMPLETED] * 2


async def test_tasks_may_be_cancelled_while_the_pool_drains(running_pool, held):
    pool = await running_pool(held)
    handles = await pool.push_tasks(map(named, "abc"))
    await held.holds("a")
    stopping = asyncio.create_task(pool.stop())
    await quiet()
    handles[2].cancel()
    handles[0].cancel()
    await held.holds("b")
    held.release("b")
    await stopping
    assert held.started == ["a", "b"]


async def test_a_drain_lets_queue_deadlines_pass(running_pool, held):
    pool = await running_pool(held)
    handles = [await pool.push_task(named("a")), await pool.push_task(named("b"), queue_timeout=0.02)]
    await held.holds("a")
    stopping = asyncio.create_task(pool.stop())
    await settled(handles[1:])
    held.release("a")
    await stopping
    assert statuses(handles) == [TaskStatus.COMPLETED, TaskStatus.FAILED]


async def test_nothing_is_taken_while_the_pool_drains(running_pool, held):
    pool = await running_pool(held)
    await pool.push_task(named("a"))
    stopping = asyncio.create_task(pool.stop())
    await held.holds("a")
    assert pool.is_stopped()
    await assert_closed(pool)
    held.release("a")
    await stopping
    await assert_closed(pool)
    assert held.started == ["a"]


async def assert_closed(pool):
    command = named("late", label="a late one")
    for push in (pool.push_task, pool.execute):
        with pytest.raises(PoolClosed, match="the pool is stopped and takes no tasks; make a new one") as caught:
            await push(command)
        assert caught.value.command is command
    with pytest.raises(PoolClosed):
        pool.try_push_task(command)
    with pytest.raises(PoolClosed):
        pool.try_push_tasks([command])
    with pytest.raises(PoolClosed):
        await pool.push_tasks([command])
    with pytest.raises(PoolClosed):
        await anext(pool.map([command]))
    with pytest.raises(PoolClosed):
        await pool.start_executor()


# -- at once --------------------------------------------------------------------------------------------------------


async def test_without_a_drain_everything_is_cancelled(running_pool, held):
    pool = await running_pool(held, limit=2)
    handles = await pool.push_tasks(map(named, "abcd"))
    await held.holds("a", "b")
    await pool.stop(drain=False)
    assert held.started == held.ended == ["a", "b"]
    for handle in handles:
        error = handle.exception()
        assert isinstance(error, TaskCancelled)
        assert str(error) == f"{handle.command.program}: the pool was stopped"
        assert (error.command, error.end_reason) == (handle.command, EndReason.CLOSED)
    assert pool.statistics().cancelled == 4


async def test_without_a_drain_it_returns_when_the_commands_are_dead(running_pool):
    executor = StubbornExecutor()
    pool = await running_pool(executor)
    handle = await pool.push_task(named("a"))
    await executor.holds("a")
    stopping = asyncio.create_task(pool.stop(drain=False))
    await quiet()
    assert (stopping.done(), handle.status) == (False, TaskStatus.RUNNING)
    executor.let_go.set()
    await stopping
    assert handle.status is TaskStatus.CANCELLED


async def test_without_a_drain_tasks_that_wait_for_a_permit_are_cancelled(running_pool, held):
    permits = asyncio.Semaphore(1)
    await permits.acquire()
    pool = await running_pool(held, limit=2, permits=permits)
    handles = await pool.push_tasks(map(named, "abc"))
    await quiet()
    await soon(pool.stop(drain=False))
    assert statuses(handles) == [TaskStatus.CANCELLED] * 3
    permits.release()
    assert not permits.locked()


# -- within a time --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, 0.02])
async def test_what_is_left_after_the_timeout_is_cancelled(running_pool, held, seconds):
    pool = await running_pool(held)
    handles = await pool.push_tasks(map(named, "abc"))
    await held.holds("a")
    held.release("a")
    await held.holds("b")
    await soon(pool.stop(timeout=seconds))
    assert statuses(handles) == [TaskStatus.COMPLETED, TaskStatus.CANCELLED, TaskStatus.CANCELLED]
    assert handles[1].exception().end_reason is EndReason.CLOSED


async def test_a_drain_that_needs_less_than_its_timeout_cancels_nothing(running_pool):
    pool = await running_pool(InstantExecutor())
    handles = await pool.push_tasks(map(named, range(10)))
    await pool.stop(timeout=60)
    assert statuses(handles) == [TaskStatus.COMPLETED] * 10


async def test_past_the_timeout_it_still_waits_until_the_commands_are_dead(running_pool):
    executor = StubbornExecutor()
    pool = await running_pool(executor)
    await pool.push_task(named("a"))
    await executor.holds("a")
    stopping = asyncio.create_task(pool.stop(timeout=0))
    await quiet()
    assert not stopping.done()
    executor.let_go.set()
    await stopping


# -- pools in an odd state ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drain", [True, False])
async def test_a_pool_that_never_started_cancels_what_it_holds(new_pool, held, drain):
    pool = new_pool(held)
    handles = pool.try_push_tasks(map(named, "ab"))
    await soon(pool.stop(drain=drain))
    assert statuses(handles) == [TaskStatus.CANCELLED] * 2
    assert held.started == []
    with pytest.raises(PoolClosed):
        await pool.start_executor()


@pytest.mark.parametrize("drain", [True, False])
async def test_an_empty_pool_stops(new_pool, running_pool, held, drain):
    for pool in (new_pool(), await running_pool(held, limit=5)):
        assert not pool.is_stopped()
        await soon(pool.stop(drain=drain))
        assert pool.is_stopped()


async def test_stopping_again_does_nothing(running_pool):
    pool = await running_pool(InstantExecutor())
    handle = await pool.push_task(named("a"))
    await pool.stop()
    for drain in (True, False):
        await pool.stop(drain=drain)
    assert handle.status is TaskStatus.COMPLETED


async def test_a_stopped_pool_leaves_no_task_of_the_loop(running_pool, held):
    before = asyncio.all_tasks()
    pool = await running_pool(held, limit=7)
    await pool.push_task(named("a"))
    await held.holds("a")
    assert len(asyncio.all_tasks() - before) == 7 + 1  # and the watch for the end of the loop
    await pool.stop(drain=False)
    assert asyncio.all_tasks() == before


async def test_a_drain_ends_when_nobody_is_left_to_run_the_queue(running_pool, held):
    """A host which cancels every task of its loop, and then closes in good order."""
    pool = await running_pool(held)
    handles = await pool.push_tasks(map(named, "ab"))
    await held.holds("a")
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await quiet()
    await soon(pool.stop())
    assert statuses(handles) == [TaskStatus.CANCELLED] * 2


# -- several at a time ----------------------------------------------------------------------------------------------


async def test_all_who_stop_return_when_it_is_done(running_pool, held):
    pool = await running_pool(held)
    await pool.push_task(named("a"))
    await held.holds("a")
    stops = [asyncio.create_task(pool.stop()) for _ in range(4)]
    await quiet()
    assert not any(stop.done() for stop in stops)
    held.release("a")
    await asyncio.gather(*stops)


async def test_a_stop_without_a_drain_hurries_one_that_drains(running_pool, held):
    pool = await running_pool(held)
    handles = await pool.push_tasks(map(named, "ab"))
    await held.holds("a")
    draining = asyncio.create_task(pool.stop())
    await quiet()
    await soon(pool.stop(drain=False))
    await soon(draining)
    assert statuses(handles) == [TaskStatus.CANCELLED] * 2


async def test_a_stop_with_a_timeout_hurries_one_without(running_pool, held):
    """Such as that of a signal handler, while `async with` is being left."""
    pool = await running_pool(held)
    handle = await pool.push_task(named("a"))
    await held.holds("a")
    draining = asyncio.create_task(pool.stop())
    await quiet()
    await soon(pool.stop(timeout=0.01))
    await soon(draining)
    assert handle.status is TaskStatus.CANCELLED


# -- cancelled ------------------------------------------------------------------------------------------------------


async def test_a_drain_that_is_cancelled_ends_everything_and_leaves_when_that_is_done(running_pool):
    executor = StubbornExecutor()
    pool = await running_pool(executor)
    handles = await pool.push_tasks(map(named, "ab"))
    await executor.holds("a")
    stopping = asyncio.create_task(pool.stop())
    await quiet()
    for _ in range(3):
        stopping.cancel()
        await quiet()
        assert not stopping.done()
    assert statuses(handles) == [TaskStatus.RUNNING, TaskStatus.CANCELLED]
    executor.let_go.set()
    assert isinstance(await outcome(stopping), asyncio.CancelledError)
    assert statuses(handles) == [TaskStatus.CANCELLED] * 2
    assert handles[0].exception().end_reason is EndReason.CLOSED
    await soon(pool.stop())


async def test_a_drain_inside_a_timeout(running_pool, held):
    pool = await running_pool(held)
    handles = await pool.push_tasks(map(named, "ab"))
    await held.holds("a")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await pool.stop()
    assert statuses(handles) == [TaskStatus.CANCELLED] * 2
    assert asyncio.current_task().cancelling() == 0


async def test_a_second_stop_that_is_cancelled_ends_everything_too(running_pool, held):
    pool = await running_pool(held)
    handle = await pool.push_task(named("a"))
    await held.holds("a")
    stops = [asyncio.create_task(pool.stop()) for _ in range(2)]
    await quiet()
    stops[1].cancel()
    values = await soon(asyncio.gather(*stops, return_exceptions=True))
    assert [type(value) for value in values] == [type(None), asyncio.CancelledError]
    assert handle.status is TaskStatus.CANCELLED


# -- pushers at the moment of the stop ------------------------------------------------------------------------------


@pytest.mark.parametrize("drain", [True, False])
async def test_pushers_who_wait_for_room_get_pool_closed(running_pool, held, drain):
    pool = await running_pool(held, max_size=1)
    await pool.push_task(named("a"))
    await held.holds("a")
    await pool.push_task(named("b"))
    pushers = [asyncio.create_task(pool.push_task(named(name))) for name in "cd"]
    pushers += [asyncio.create_task(pool.push_tasks([named("e")])), asyncio.create_task(pool.execute(named("f")))]
    await quiet()
    stopping = asyncio.create_task(pool.stop(drain=drain))
    errors = await soon(asyncio.gather(*pushers, return_exceptions=True))
    assert [type(error) for error in errors] == [PoolClosed] * 4
    assert len({id(error) for error in errors}) == 4  # one traceback each
    if drain:
        held.release("a")
        await held.holds("b")
        held.release("b")
    await stopping
    assert pool.statistics().submitted == 2


async def test_a_pusher_who_was_just_given_a_place_gets_pool_closed(new_pool, held):
    """The task would never be settled: nobody runs it any more."""
    pool = new_pool(held, max_size=1)
    resident = pool.try_push_task(named("resident"))
    pusher = asyncio.create_task(pool.push_task(named("late")))
    await quiet()
    resident.cancel()
    await pool.stop()
    with pytest.raises(PoolClosed):
        await pusher
    assert len(pool) == 0


async def test_a_stop_without_a_drain_does_not_run_what_a_pusher_still_had_in_hand(running_pool, held):
    pool = await running_pool(held, max_size=1)
    await pool.push_task(named("a"))
    await held.holds("a")
    resident = await pool.push_task(named("b"))
    pusher = asyncio.create_task(pool.push_task(named("late")))
    await quiet()

    async def make_room_and_stop():
        resident.cancel()
        await pool.stop(drain=False)

    stopping = asyncio.create_task(make_room_and_stop())
    await quiet()
    if "late" in held.held:
        held.release("late")
    await soon(stopping)
    assert held.started == ["a"]
    assert isinstance(await outcome(pusher), PoolClosed)


@pytest.mark.parametrize("drain", [True, False])
@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 50])
async def test_a_stop_while_pushers_stream_settles_everything(running_pool, drain, turns):
    pool = await running_pool(InstantExecutor(), limit=2, max_size=3)
    handles = []

    async def stream():
        while True:
            handles.append(await pool.push_task(named("a")))
            await asyncio.sleep(0)

    pushers = [asyncio.create_task(stream()) for _ in range(5)]
    for _ in range(turns):
        await asyncio.sleep(0)
    await soon(pool.stop(drain=drain))
    errors = await soon(asyncio.gather(*pushers, return_exceptions=True))
    assert [type(error) for error in errors] == [PoolClosed] * 5
    await settled(handles)
    assert_counts_add_up(pool, handles)
    assert len(pool) == 0
    if drain:
        assert set(statuses(handles)) <= {TaskStatus.COMPLETED}


# -- async with -----------------------------------------------------------------------------------------------------


async def test_leaving_normally_drains(held):
    executor = InstantExecutor()
    async with CommandPool(ExecutionConfig(concurrency_limit=1), executor=executor) as pool:
        handles = await pool.push_tasks(map(named, range(20)))
    assert statuses(handles) == [TaskStatus.COMPLETED] * 20
    assert pool.is_stopped()


@pytest.mark.parametrize("error", [ValueError("in the body"), asyncio.CancelledError()])
async def test_leaving_by_an_exception_ends_everything(held, error):
    handles = []

    async def body():
        async with CommandPool(ExecutionConfig(concurrency_limit=1), executor=held) as pool:
            handles.extend(await pool.push_tasks(map(named, "ab")))
            await held.holds("a")
            raise error

    assert type(await soon(outcome(body()))) is type(error)
    assert statuses(handles) == [TaskStatus.CANCELLED] * 2


async def test_leaving_while_cancelled_again_and_again_ends_everything(held):
    executor, handles = StubbornExecutor(), []

    async def body():
        async with CommandPool(ExecutionConfig(concurrency_limit=1), executor=executor) as pool:
            handles.extend(await pool.push_tasks(map(named, "ab")))
            await handles[1]

    task = asyncio.create_task(body())
    await executor.holds("a")
    for _ in range(4):
        task.cancel()
        await quiet()
        assert not task.done()
    executor.let_go.set()
    assert isinstance(await outcome(task), asyncio.CancelledError)
    assert statuses(handles) == [TaskStatus.CANCELLED] * 2


async def test_a_pool_may_be_stopped_inside_its_block(held):
    async with CommandPool(executor=InstantExecutor()) as pool:
        handle = await pool.push_task(named("a"))
        await pool.stop()
        assert handle.status is TaskStatus.COMPLETED


# -- with programs --------------------------------------------------------------------------------------------------


async def test_a_drain_waits_for_programs(backend):
    async with CommandPool(ExecutionConfig(concurrency_limit=2), executor=backend) as pool:
        handles = await pool.push_tasks([sh(f"exit {code}") for code in range(6)])
    assert [handle.result().returncode for handle in handles] == list(range(6))


async def test_leaving_by_an_exception_kills_programs(backend, ready, tmp_path):
    async def body():
        async with CommandPool(ExecutionConfig(concurrency_limit=1), executor=backend) as pool:
            handles.append(await pool.push_task(helper("ignore_sigterm", ready.path, grace=0.1)))
            handles.append(await pool.push_task(helper("touch_file", tmp_path / "ran")))
            pids.append(int(await ready.wait()))
            raise ValueError("in the body")

    handles, pids = [], []
    with returns_before_programs_end(), pytest.raises(ValueError, match="in the body"):
        await body()
    assert is_gone(pids[0])
    assert statuses(handles) == [TaskStatus.CANCELLED] * 2
    assert not (tmp_path / "ran").exists()
    error = handles[0].exception()
    assert error.result.stdout == b"stubborn"
    assert error.end_reason is error.result.end_reason is EndReason.CLOSED


async def test_programs_are_killed_when_the_drain_takes_too_long(backend, ready):
    pool = CommandPool(ExecutionConfig(concurrency_limit=2), executor=backend)
    await pool.start_executor()
    handles = await pool.push_tasks([helper("sleep_after_ready", ready.path)] * 2)
    pids = await ready.pids(2)
    with returns_before_programs_end():
        await pool.stop(timeout=0.05)
    assert all(map(is_gone, pids))
    assert statuses(handles) == [TaskStatus.CANCELLED] * 2


# -- the backend of the pool's own ----------------------------------------------------------------------------------


class Backend(HeldExecutor):
    """Tells how it was treated."""

    def __init__(self, *, start=None, close=None):
        super().__init__()
        self.log, self._start_error, self._close_error = [], start, close

    async def __aenter__(self):
        await asyncio.sleep(0)
        self.log.append("entered")
        if self._start_error:
            raise self._start_error
        return self

    async def aclose(self):
        await asyncio.sleep(0)
        self.log.append(f"closed with {len(self.held)} running")
        if self._close_error:
            raise self._close_error


@pytest.fixture
def own_backend(monkeypatch):
    """Call it for a backend that the next pool without an executor of its own will make."""

    def make(**errors):
        backend = Backend(**errors)
        monkeypatch.setattr("aiocmdpool.pool.lifecycle.create_backend", lambda config: backend)
        return backend

    return make


@pytest.mark.parametrize("drain", [True, False])
async def test_the_backend_is_closed_when_everything_has_ended(own_backend, running_pool, drain):
    backend = own_backend()
    pool = await running_pool()
    await pool.push_task(named("a"))
    await backend.holds("a")
    stopping = asyncio.create_task(pool.stop(drain=drain))
    if drain:
        await quiet()
        backend.release("a")
    await stopping
    assert backend.log == ["entered", "closed with 0 running"]


async def test_the_backend_is_closed_even_if_the_stop_is_cancelled(own_backend, running_pool):
    backend = own_backend()
    pool = await running_pool()
    await pool.push_task(named("a"))
    await backend.holds("a")
    stopping = asyncio.create_task(pool.stop())
    while not stopping.done():
        await asyncio.sleep(0)
        stopping.cancel()
    assert stopping.cancelled()
    assert backend.log == ["entered", "closed with 0 running"]


async def test_the_backend_starts_once(own_backend, new_pool):
    backend = own_backend()
    pool = new_pool()
    await asyncio.gather(pool.start_executor(), pool.start_executor())
    await pool.start_executor()
    handle = await pool.push_task(named("a"))
    await backend.holds("a")
    backend.release("a")
    assert (await handle).ok
    assert backend.log == ["entered"]


async def test_an_executor_of_somebody_else_is_not_closed(running_pool):
    backend = Backend()
    pool = await running_pool(backend)
    await pool.stop()
    assert backend.log == []


@pytest.mark.one_loop
async def test_a_backend_that_fails_to_close_keeps_nobody_waiting(own_backend):
    own_backend(close=ValueError("cannot close"))
    pool = CommandPool()
    await pool.start_executor()
    values = await soon(asyncio.gather(pool.stop(), pool.stop(), return_exceptions=True))
    assert isinstance(values[0], ValueError)


@pytest.mark.one_loop
async def test_a_backend_that_fails_to_start_leaves_a_pool_that_is_not_started(own_backend, new_pool):
    own_backend(start=ValueError("cannot start"))
    pool = new_pool()
    handle = pool.try_push_task(named("a"))
    with pytest.raises(ValueError, match="cannot start"):
        await pool.start_executor()
    await soon(pool.stop())
    assert handle.status is TaskStatus.CANCELLED


async def test_a_stop_during_the_start_leaves_nothing(own_backend, new_pool):
    backend = own_backend()
    pool = new_pool()
    before = asyncio.all_tasks()
    starting = asyncio.create_task(pool.start_executor())
    await asyncio.sleep(0)
    await pool.stop()
    await outcome(starting)
    await quiet()
    left = asyncio.all_tasks() - before
    for task in left:
        task.cancel()  # or they spoil the tests that follow
    assert not left
    assert backend.log == ["entered", "closed with 0 running"]
