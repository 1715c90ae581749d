"""Cancelling: the await of `execute`, and tasks by their handles, wherever the task is just then."""

import asyncio

import psutil
import pytest
from contract.support import assert_dead, helper, is_gone, outcome, returns_before_programs_end

from aiocmdpool import CommandConfig, CommandPool, EndReason, ExecuteError, ExecutionConfig, TaskCancelled, TaskStatus

from .support import HeldExecutor, InstantExecutor, StubbornExecutor, named, quiet, result_of, settled, statuses


@pytest.fixture
async def programs(backend):
    """A pool that runs programs, two at a time."""
    async with CommandPool(ExecutionConfig(concurrency_limit=2), executor=backend) as pool:
        yield pool


async def assert_pool_still_works(pool, executor, *, limit=1):
    """That it still runs `limit` commands at once, and neither fewer nor more."""
    handles = await pool.push_tasks([named(f"after-{number}") for number in range(limit + 1)])
    await quiet()
    last = handles.pop()
    assert statuses([*handles, last]) == [TaskStatus.RUNNING] * limit + [TaskStatus.PENDING]
    last.cancel()
    executor.release(*(handle.command.program for handle in handles))
    assert all(result.ok for result in await asyncio.gather(*handles))


# -- execute -------------------------------------------------------------------------------------------------------


async def test_execute_cancelled_while_it_waits_for_room_pushes_nothing(running_pool, held):
    pool = await running_pool(held, max_size=1)
    await pool.push_task(named("a"))
    await held.holds("a")
    waiting = await pool.push_task(named("b"))
    task = asyncio.create_task(pool.execute(named("c")))
    await quiet()
    task.cancel()
    assert isinstance(await outcome(task), asyncio.CancelledError)
    assert pool.statistics().submitted == 2
    waiting.cancel()
    assert len(pool) == 0


@pytest.mark.parametrize("turns", range(6))
async def test_execute_cancelled_as_its_place_arrives_leaves_nothing(running_pool, held, turns):
    pool = await running_pool(held, max_size=1)
    await pool.push_task(named("a"))
    await held.holds("a")
    waiting = await pool.push_task(named("b"))
    task = asyncio.create_task(pool.execute(named("c")))
    await quiet()
    waiting.cancel()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    assert isinstance(await outcome(task), asyncio.CancelledError)
    assert len(pool) == 0
    assert pool.statistics().queued == 0
    held.release("a")
    await quiet()
    assert held.started == ["a"]


async def test_execute_cancelled_in_the_queue_never_starts_the_command(running_pool, held):
    pool = await running_pool(held)
    await pool.push_task(named("a"))
    await held.holds("a")
    task = asyncio.create_task(pool.execute(named("b")))
    await quiet()
    task.cancel()
    assert isinstance(await outcome(task), asyncio.CancelledError)
    assert len(pool) == 0
    assert pool.statistics().cancelled == 1
    held.release("a")
    await quiet()
    assert held.started == ["a"]


async def test_execute_cancelled_before_its_first_step_pushes_nothing(running_pool, held):
    pool = await running_pool(held)
    task = asyncio.create_task(pool.execute(named("a")))
    task.cancel()
    assert isinstance(await outcome(task), asyncio.CancelledError)
    assert pool.statistics().submitted == 0


async def test_execute_cancelled_while_it_waits_for_a_permit(running_pool, held):
    permits = asyncio.Semaphore(1)
    await permits.acquire()
    pool = await running_pool(held, permits=permits)
    task = asyncio.create_task(pool.execute(named("a")))
    await quiet()
    task.cancel()
    assert isinstance(await outcome(task), asyncio.CancelledError)
    permits.release()
    await assert_pool_still_works(pool, held)
    assert "a" not in held.started


async def test_execute_cancelled_while_running_ends_the_command_first(running_pool):
    executor = StubbornExecutor()
    pool = await running_pool(executor)
    task = asyncio.create_task(pool.execute(named("a")))
    await executor.holds("a")
    for _ in range(3):  # an impatient caller shortens nothing
        task.cancel()
        await quiet()
        assert not task.done()
    assert pool.statistics().running == 1
    executor.let_go.set()
    assert isinstance(await outcome(task), asyncio.CancelledError)
    assert executor.ended == ["a"]
    assert (pool.statistics().running, pool.statistics().cancelled) == (0, 1)
    await assert_pool_still_works(pool, executor)


@pytest.mark.parametrize("turns", range(8))
async def test_execute_cancelled_right_after_its_start(running_pool, turns):
    """However far it has come: what has started has ended when `CancelledError` leaves."""
    executor = HeldExecutor()
    pool = await running_pool(executor)
    task = asyncio.create_task(pool.execute(named("a")))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    assert isinstance(await outcome(task), asyncio.CancelledError)
    assert executor.started == executor.ended
    assert executor.held == []
    await assert_pool_still_works(pool, executor)


async def test_execute_cancelled_as_the_command_ends_is_cancelled(running_pool, held):
    pool = await running_pool(held)
    task = asyncio.create_task(pool.execute(named("a")))
    await held.holds("a")
    held.release("a")
    task.cancel()
    assert isinstance(await outcome(task), asyncio.CancelledError)
    assert pool.statistics().running == pool.statistics().queued == 0
    await assert_pool_still_works(pool, held)


async def test_execute_inside_a_timeout_leaves_the_caller_uncancelled(running_pool, held):
    pool = await running_pool(held)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):  # it has begun by then
            await pool.execute(named("a"))
    assert asyncio.current_task().cancelling() == 0
    assert held.ended == ["a"]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pool.execute(named("b")), 0.3)
    assert held.ended == ["a", "b"]


async def test_execute_in_a_task_group_ends_with_the_group(running_pool, held):
    pool = await running_pool(held, limit=2)

    async def run_both():
        async with asyncio.TaskGroup() as group:
            group.create_task(pool.execute(named("bad")))
            group.create_task(pool.execute(named("good")))
            await held.holds("good", "bad")
            held.fail("bad", ExecuteError("bad"))

    with pytest.raises(ExceptionGroup) as caught:
        await run_both()
    assert [str(error) for error in caught.value.exceptions] == ["bad"]
    assert held.held == []


async def test_execute_raises_task_cancelled_when_somebody_else_cancels(running_pool, held):
    pool = await running_pool(held)
    tasks = [asyncio.create_task(pool.execute(named(name))) for name in "ab"]
    await held.holds("a")
    pool.clear()
    assert isinstance(await outcome(tasks[1]), TaskCancelled)
    await pool.stop(drain=False)
    assert isinstance(await outcome(tasks[0]), TaskCancelled)
    assert not any(task.cancelled() for task in tasks)


# -- execute, with programs ----------------------------------------------------------------------------------------


async def test_the_program_is_dead_when_cancelled_error_leaves(programs, ready):
    task = asyncio.create_task(programs.execute(helper("sleep_after_ready", ready.path)))
    pid = int(await ready.wait())
    task.cancel()
    with returns_before_programs_end():
        assert isinstance(await outcome(task), asyncio.CancelledError)
    assert is_gone(pid)
    assert programs.statistics().cancelled == 1


async def test_a_program_that_ignores_term_is_dead_when_cancelled_error_leaves(programs, ready):
    task = asyncio.create_task(programs.execute(helper("ignore_sigterm", ready.path, grace=0.1)))
    pid = int(await ready.wait())
    with returns_before_programs_end():
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
    assert task.cancelled()
    assert is_gone(pid)


@pytest.mark.parametrize("turns", range(1, 9, 2))
async def test_no_program_is_left_when_cancelled_right_after_the_start(programs, turns):
    task = asyncio.create_task(programs.execute(CommandConfig("sleep", ["60"])))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    assert isinstance(await outcome(task), asyncio.CancelledError)
    assert not [child for child in psutil.Process().children(recursive=True) if child.name() == "sleep"]


# -- handle.cancel -------------------------------------------------------------------------------------------------


async def test_cancelling_a_pending_task_settles_it_at_once(new_pool):
    pool = new_pool()
    command = named("a")
    handle = pool.try_push_task(command)
    assert handle.cancel() is True
    assert handle.status is TaskStatus.CANCELLED
    error = handle.exception()
    assert str(error) == "a: cancelled before it started"
    assert (error.command, error.result, error.end_reason) == (command, None, EndReason.CANCELLED)
    assert len(pool) == 0


async def test_cancelling_a_running_task_settles_it_when_its_command_is_dead(running_pool):
    executor = StubbornExecutor()
    pool = await running_pool(executor)
    handle = await pool.push_task(named("a"))
    await executor.holds("a")
    assert handle.cancel() is True
    await quiet()
    assert handle.status is TaskStatus.RUNNING
    executor.let_go.set()
    with pytest.raises(TaskCancelled, match="a: cancelled while it ran"):
        await handle
    assert handle.status is TaskStatus.CANCELLED
    assert handle.exception().end_reason is EndReason.CANCELLED


async def test_cancelling_a_running_task_again_changes_nothing(running_pool):
    executor = StubbornExecutor()
    pool = await running_pool(executor, limit=2)
    handle = await pool.push_task(named("a"))
    await executor.holds("a")
    for _ in range(5):
        assert handle.cancel() is True
        await quiet()
    executor.let_go.set()
    await settled([handle])
    assert handle.cancel() is False
    assert pool.statistics().cancelled == 1
    await assert_pool_still_works(pool, executor, limit=2)


async def test_cancelling_a_settled_task_does_nothing(running_pool, held):
    pool = await running_pool(held)
    handles = await pool.push_tasks(map(named, ["good", "bad", "gone"]))
    assert handles[2].cancel()
    await held.holds("good")
    held.release("good")
    await held.holds("bad")
    held.fail("bad", ExecuteError("bad"))
    await settled(handles)
    before = statuses(handles)
    assert [handle.cancel() for handle in handles] == [False] * 3
    assert statuses(handles) == before == [TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED]


async def test_whoever_awaits_a_cancelled_task_is_not_cancelled(running_pool, held):
    pool = await running_pool(held)
    handles = await pool.push_tasks(map(named, "ab"))
    awaits = [asyncio.ensure_future(handle) for handle in handles]
    await held.holds("a")
    for handle in handles:
        handle.cancel()
    values = await asyncio.gather(*awaits, return_exceptions=True)
    assert [type(value) for value in values] == [TaskCancelled] * 2
    assert not any(waiting.cancelled() or waiting.cancelling() for waiting in awaits)


@pytest.mark.parametrize("turns", range(8))
async def test_cancel_at_any_moment_settles_once_and_spares_the_runner(running_pool, held, turns):
    pool = await running_pool(held)
    handle = await pool.push_task(named("a"))
    for _ in range(turns):
        await asyncio.sleep(0)
    handle.cancel()
    assert isinstance(await outcome(handle), TaskCancelled)
    assert held.started == held.ended
    await assert_pool_still_works(pool, held)


async def test_cancel_as_the_command_ends_settles_once_and_spares_the_runner(running_pool, held):
    pool = await running_pool(held)
    handle = await pool.push_task(named("a"))
    await held.holds("a")
    held.release("a")
    handle.cancel()
    await settled([handle])
    assert handle.status in (TaskStatus.COMPLETED, TaskStatus.CANCELLED)
    await assert_pool_still_works(pool, held)


async def test_cancelling_many_leaves_the_concurrency_as_it_was(running_pool, held):
    pool = await running_pool(held, limit=3)
    for number in range(20):
        handles = await pool.push_tasks([named(f"{number}-{index}") for index in range(6)])
        await held.holds(*(f"{number}-{index}" for index in range(3)))
        for handle in handles:
            handle.cancel()
        await settled(handles)
    assert held.most == 3
    await assert_pool_still_works(pool, held, limit=3)


async def test_cancel_one_of_many(running_pool, held):
    pool = await running_pool(held, limit=3)
    handles = await pool.push_tasks(map(named, "abc"))
    await held.holds(*"abc")
    handles[1].cancel()
    held.release("a", "c")
    values = await asyncio.gather(*handles, return_exceptions=True)
    assert isinstance(values.pop(1), TaskCancelled)
    assert all(value.ok for value in values)


async def test_a_task_may_be_cancelled_from_the_callback_of_another(running_pool, held):
    pool = await running_pool(held, limit=2)
    first, second = await pool.push_tasks(map(named, "ab"))
    first.add_done_callback(lambda _: second.cancel())
    await held.holds("a", "b")
    held.release("a")
    assert isinstance(await outcome(second), TaskCancelled)


@pytest.mark.parametrize("then", ["waits for a task", "runs the next"])
async def test_an_executor_may_cancel_the_task_that_it_is_about_to_finish(running_pool, then):
    class Executor(InstantExecutor):
        async def execute(self, command):
            if command.program == "suicide":
                suicide.cancel()
                return result_of(command)
            return await super().execute(command)

    pool = await running_pool(Executor())
    suicide = await pool.push_task(named("suicide"))
    following = [await pool.push_task(named("next"))] if then == "runs the next" else []
    await settled([suicide])
    await quiet()
    following.append(await pool.push_task(named("last")))
    await quiet()
    assert statuses(following) == [TaskStatus.COMPLETED] * len(following)


async def test_the_first_reason_wins(running_pool):
    executor = StubbornExecutor()
    pool = await running_pool(executor)
    handle = await pool.push_task(named("a"))
    await executor.holds("a")
    handle.cancel()
    stopping = asyncio.create_task(pool.stop(drain=False))
    await quiet()
    executor.let_go.set()
    await stopping
    assert handle.exception().end_reason is EndReason.CANCELLED


# -- handle.cancel, with programs ----------------------------------------------------------------------------------


async def test_the_error_of_a_cancelled_task_has_the_output_so_far(programs, ready):
    handle = await programs.push_task(helper("sleep_after_ready", ready.path))
    pid = int(await ready.wait())
    handle.cancel()
    with returns_before_programs_end(), pytest.raises(TaskCancelled) as caught:
        await handle
    assert is_gone(pid)
    result = caught.value.result
    assert (result.stdout, result.stderr, result.pid) == (b"ready", b"so far", pid)
    assert result.end_reason is caught.value.end_reason is EndReason.CANCELLED
    assert result.queued == handle.queued


async def test_a_cancelled_program_is_given_its_grace(programs, ready):
    handle = await programs.push_task(helper("say_goodbye", ready.path, grace=20))
    await ready.wait()
    handle.cancel()
    error = await outcome(handle)
    assert (error.result.stdout, error.result.returncode) == (b"goodbye", 0)


async def test_a_cancelled_program_takes_its_children_along(programs, ready):
    handle = await programs.push_task(helper("grandchildren", ready.path, "stubborn", grace=0.1))
    pids = await ready.pids(4)
    handle.cancel()
    with returns_before_programs_end():
        await settled([handle])
    await assert_dead(*pids)


async def test_a_cancelled_program_makes_room_for_the_next(programs, ready):
    sleepers = await programs.push_tasks([helper("sleep_after_ready", ready.path)] * 2)
    await ready.pids(2)
    waiting = await programs.push_task(CommandConfig("true"))
    assert waiting.status is TaskStatus.PENDING
    sleepers[0].cancel()
    assert (await waiting).ok
    assert sleepers[1].status is TaskStatus.RUNNING
    sleepers[1].cancel()
    await settled(sleepers)
