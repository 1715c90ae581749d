"""Executors of somebody else's: whatever they do, each task is settled once and the pool goes on."""

import asyncio
from typing import Any

import pytest
from contract.support import helper, is_gone, outcome, returns_before_programs_end

from aiocmdpool import (
    CommandConfig,
    CommandExecutor,
    CommandPool,
    CommandTimeout,
    ConfigError,
    EndReason,
    ExecuteError,
    ExecutionConfig,
    IoError,
    NonZeroExit,
    PoolClosed,
    TaskCancelled,
    TaskStatus,
)

from .support import HeldExecutor, InstantExecutor, StubbornExecutor, named, quiet, result_of, settled, soon


class Playing:
    """Plays the scene that a command names; each is a coroutine function."""

    def __init__(self, **scenes):
        self.scenes = scenes

    async def execute(self, command):
        scene = self.scenes.get(command.program)
        return await scene(command) if scene else result_of(command)


async def assert_goes_on(pool, *, limit=1):
    """That the pool still runs `limit` commands at once."""
    reached = asyncio.Event()
    meeting = 0

    async def meet(command):
        nonlocal meeting
        meeting += 1
        if meeting == limit:
            reached.set()
        await reached.wait()
        return result_of(command)

    pool.given.scenes["meet"] = meet
    await soon(asyncio.gather(*await pool.push_tasks([named("meet")] * limit)))


@pytest.fixture
def play(running_pool):
    """Call it with scenes for a pool that runs them."""

    async def make(*, limit=1, **scenes):
        executor = Playing(**scenes)
        pool = await running_pool(executor, limit=limit)
        pool.given = executor
        return pool

    return make


# -- what an executor is -----------------------------------------------------------------------------------------------


async def test_any_object_with_execute_is_an_executor(running_pool):
    class Plain:
        async def execute(self, command):
            return result_of(command, stdout=b"plain")

    executor = Plain()
    assert isinstance(executor, CommandExecutor)
    pool = await running_pool(executor)
    assert (await pool.execute(named("a"))).stdout == b"plain"


async def test_a_pool_is_an_executor(new_pool):
    assert isinstance(new_pool(), CommandExecutor)


class Delegating:
    """Has what another executor has."""

    def __init__(self, executor: CommandExecutor) -> None:
        self._executor = executor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)


async def test_an_executor_may_delegate_to_another_one(running_pool):
    pool = await running_pool(Delegating(InstantExecutor()))
    assert (await pool.execute(named("a"))).returncode == 0


class NoMethod:
    execute = 5


@pytest.mark.one_loop
@pytest.mark.parametrize("executor", [object(), len, InstantExecutor().execute, "executor", NoMethod()])
async def test_what_has_no_execute_is_refused(new_pool, executor):
    with pytest.raises(ConfigError, match=r"executor: .* has no execute\(command\)"):
        new_pool(executor)
    with pytest.raises(ConfigError, match=r"executor: .* is a class; give an object of it"):
        new_pool(InstantExecutor)


async def test_it_is_given_the_command_itself(play):
    seen = []

    async def look(command):
        seen.append(command)
        return result_of(command)

    pool = await play(look=look)
    command = named("look", metadata={"key": "value"})
    assert (await pool.execute(command)).command is command
    assert seen[0] is command


async def test_its_result_is_passed_on_with_the_time_in_the_queue(play):
    given = []

    async def hand_out(command):
        given.append(result_of(command, returncode=7, stdout=b"out", stderr=b"err", pid=42, duration=1.5))
        return given[0]

    pool = await play(give=hand_out)
    handle = await pool.push_task(named("give"))
    assert await handle == given[0].with_queued(handle.queued)
    assert given[0].queued == 0


# -- what it returns ---------------------------------------------------------------------------------------------------


@pytest.mark.one_loop
@pytest.mark.parametrize("garbage", [None, 7, "result", b"", object(), ExecuteError("returned"), CommandConfig("a")])
async def test_what_is_no_result_fails_the_task(play, garbage):
    async def return_garbage(_):
        return garbage

    pool = await play(bad=return_garbage)
    handle = await pool.push_task(named("bad"))
    with pytest.raises(ExecuteError, match=r"the executor returned .*, not a CommandResult"):
        await handle
    assert handle.status is TaskStatus.FAILED
    await assert_goes_on(pool)


async def test_an_execute_that_is_not_async_fails_the_task(running_pool):
    class NotAsync:
        def execute(self, command):
            return result_of(command)

    pool = await running_pool(NotAsync())
    handles = await pool.push_tasks(map(named, "ab"))
    assert [type(await outcome(handle)) for handle in handles] == [TypeError] * 2


async def test_an_execute_with_other_arguments_fails_the_task(running_pool):
    class Other:
        async def execute(self):
            raise AssertionError

    pool = await running_pool(Other())
    assert isinstance(await outcome(pool.execute(named("a"))), TypeError)


# -- what it raises ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        ExecuteError("bad"),
        CommandTimeout("late"),
        IoError("no such file", errno=2),
        PoolClosed("closed"),
        TaskCancelled("by the executor"),
        ValueError("of another kind"),
        ExceptionGroup("two", [ValueError(), KeyError()]),
        StopIteration(),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_its_errors_are_those_of_the_task(play, error):
    async def fail(_):
        await asyncio.sleep(0)
        raise error

    pool = await play(fail=fail)
    handle = await pool.push_task(named("fail"))
    raised = await outcome(handle)
    if isinstance(error, StopIteration):  # cannot leave a coroutine (PEP 479)
        assert isinstance(raised, RuntimeError)
    else:
        assert raised is error is handle.exception()
    assert handle.status is TaskStatus.FAILED
    assert pool.statistics().timed_out == isinstance(error, CommandTimeout)
    await assert_goes_on(pool)


async def test_a_cancelled_error_of_its_own_is_no_cancellation_of_anybody(play):
    async def cancel_for_no_reason(_):
        raise asyncio.CancelledError("of its own")

    pool = await play(limit=2, cancel=cancel_for_no_reason)
    handles = await pool.push_tasks([named("cancel")] * 5)
    for handle in handles:
        with pytest.raises(TaskCancelled):
            await handle
    assert isinstance(await outcome(pool.execute(named("cancel"))), TaskCancelled)
    assert asyncio.current_task().cancelling() == 0
    await assert_goes_on(pool, limit=2)


async def test_a_cancelled_error_of_something_it_awaited(play):
    """Such as a task of its own that somebody cancelled."""

    async def await_something_cancelled(_):
        task = asyncio.ensure_future(asyncio.sleep(60))
        asyncio.get_running_loop().call_soon(task.cancel)
        await task

    pool = await play(wait=await_something_cancelled)
    assert isinstance(await outcome(pool.execute(named("wait"))), TaskCancelled)
    await assert_goes_on(pool)


async def test_the_output_in_the_cause_of_a_cancellation_reaches_the_caller(play):
    started = asyncio.Event()

    async def end_with_output(command):
        try:
            started.set()
            await asyncio.sleep(60)
        except asyncio.CancelledError as cancelled:
            raise cancelled from TaskCancelled("ended", result=result_of(command, stdout=b"so far"))

    pool = await play(run=end_with_output)
    handle = await pool.push_task(named("run"))
    await started.wait()
    handle.cancel()
    error = await outcome(handle)
    assert error.result.stdout == b"so far"
    assert error.result.queued == handle.queued


# -- what it does with a cancellation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["result", "error"])
async def test_who_swallows_a_cancellation_decides_the_outcome(play, end):
    started = asyncio.Event()
    error = NonZeroExit("it failed while it was being ended")

    async def swallow(command):
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        if end == "error":
            raise error
        return result_of(command)

    pool = await play(swallow=swallow)
    handle = await pool.push_task(named("swallow"))
    await started.wait()
    handle.cancel()
    value = await outcome(handle)
    assert value is error if end == "error" else value.ok
    assert handle.status is (TaskStatus.FAILED if end == "error" else TaskStatus.COMPLETED)
    await assert_goes_on(pool)


async def test_the_next_task_of_a_runner_is_not_hit_by_the_cancellation_of_the_last(play):
    async def ask(command):
        return result_of(command, returncode=asyncio.current_task().cancelling())

    async def sleep(_):
        await asyncio.sleep(60)

    pool = await play(ask=ask, sleep=sleep)
    for _ in range(3):
        handle = await pool.push_task(named("sleep"))
        await quiet()
        handle.cancel()
        assert (await pool.execute(named("ask"))).returncode == 0


async def test_it_may_use_timeouts_of_its_own(play):
    async def time_out(_):
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)

    pool = await play(late=time_out)
    for _ in range(3):
        assert isinstance(await outcome(pool.execute(named("late"))), TimeoutError)
    await assert_goes_on(pool)


async def test_it_may_use_a_task_group(play):
    async def group(command):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(60))
            tasks.create_task(asyncio.sleep(0))
            if command.args:
                raise ZeroDivisionError
        return result_of(command)

    pool = await play(group=group)
    handle = await pool.push_task(named("group"))
    await quiet()
    handle.cancel()
    assert isinstance(await outcome(handle), TaskCancelled)
    assert isinstance(await outcome(pool.execute(CommandConfig("group", ["fail"]))), ExceptionGroup)
    await assert_goes_on(pool)


async def test_it_may_cancel_itself_and_not_take_it_back(play):
    """As timeouts did before `Task.uncancel` (async-timeout before 4.0.3, older aiohttp)."""

    async def old_timeout(_):
        asyncio.current_task().cancel()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise TimeoutError from None

    async def sleep(_):
        await asyncio.sleep(60)

    pool = await play(old=old_timeout, sleep=sleep)
    assert isinstance(await outcome(pool.execute(named("old"))), TimeoutError)
    handle = await pool.push_task(named("sleep"))
    await quiet()
    handle.cancel()
    assert isinstance(await outcome(handle), TaskCancelled)
    await assert_goes_on(pool)


# -- executors around executors ----------------------------------------------------------------------------------------


class Retrying:
    """An executor around another, as users write them."""

    def __init__(self, inner, attempts):
        self.inner, self.attempts = inner, attempts

    async def execute(self, command):
        for _ in range(self.attempts - 1):
            try:
                return await self.inner.execute(command)
            except NonZeroExit:
                continue
        return await self.inner.execute(command)


async def test_an_executor_around_another(running_pool):
    attempts = []

    async def fail_twice(command):
        attempts.append(command)
        if len(attempts) < 3:
            raise NonZeroExit("not yet")
        return result_of(command)

    pool = await running_pool(Retrying(Playing(flaky=fail_twice), 3))
    assert (await pool.execute(named("flaky"))).ok
    assert len(attempts) == 3
    assert pool.statistics().completed == 1


async def test_a_pool_behind_a_pool_runs_what_both_allow(running_pool, held):
    inner = await running_pool(held, limit=2)
    outer = await running_pool(inner, limit=5)
    handles = await outer.push_tasks(map(named, range(8)))
    for number in range(8):
        await held.holds(number)
        await quiet()
        assert inner.statistics().running == min(2, 8 - number)
        assert outer.statistics().running == min(5, 8 - number)
        held.release(number)
    await settled(handles)
    assert held.most == 2
    assert inner.statistics().completed == outer.statistics().completed == 8


async def test_cancelling_reaches_through_pools(running_pool):
    executor = StubbornExecutor()
    inner = await running_pool(executor)
    outer = await running_pool(inner, limit=2)
    running, waiting = await outer.push_tasks(map(named, "ab"))
    await executor.holds("a")
    await quiet()
    for handle in (waiting, running):
        handle.cancel()
    await quiet()
    assert (running.status, waiting.status) == (TaskStatus.RUNNING, TaskStatus.CANCELLED)
    executor.let_go.set()
    assert isinstance(await outcome(running), TaskCancelled)
    assert inner.statistics().cancelled == outer.statistics().cancelled == 2
    assert executor.started == ["a"]


async def test_an_inner_pool_that_stops_fails_the_tasks_of_the_outer(running_pool, held):
    inner = await running_pool(held)
    outer = await running_pool(inner)
    handles = await outer.push_tasks(map(named, "ab"))
    await held.holds("a")
    await inner.stop(drain=False)
    assert [type(await outcome(handle)) for handle in handles] == [TaskCancelled, PoolClosed]
    assert not outer.is_stopped()


async def test_stopping_the_outer_pool_leaves_the_inner_one_running(running_pool, held):
    inner = await running_pool(held)
    outer = await running_pool(inner)
    await outer.push_task(named("a"))
    await held.holds("a")
    await outer.stop(drain=False)
    assert held.held == []
    task = asyncio.create_task(inner.execute(named("b")))
    await held.holds("b")
    held.release("b")
    assert (await task).ok


async def test_programs_die_through_pools(backend, ready):
    config = ExecutionConfig(concurrency_limit=1)
    async with CommandPool(config, executor=backend) as inner, CommandPool(config, executor=inner) as outer:
        handle = await outer.push_task(helper("sleep_after_ready", ready.path))
        pid = int(await ready.wait())
        handle.cancel()
        with returns_before_programs_end():
            await settled([handle])
        assert is_gone(pid)


async def test_output_so_far_comes_through_pools(backend, ready):
    config = ExecutionConfig(concurrency_limit=1)
    async with CommandPool(config, executor=backend) as inner, CommandPool(config, executor=inner) as outer:
        handle = await outer.push_task(helper("sleep_after_ready", ready.path))
        await ready.wait()
        handle.cancel()
        error = await outcome(handle)
        assert error.end_reason is EndReason.CANCELLED
        assert error.result is not None
        assert error.result.stdout == b"ready"


async def test_one_executor_may_serve_many_pools(running_pool):
    executor = HeldExecutor()
    pools = [await running_pool(executor) for _ in range(3)]
    handles = [await pool.push_task(named(number)) for number, pool in enumerate(pools)]
    await executor.holds(0, 1, 2)
    await pools[0].stop(drain=False)
    assert executor.held == ["1", "2"]
    executor.release(1, 2)
    assert all(result.ok for result in await asyncio.gather(*handles[1:]))
