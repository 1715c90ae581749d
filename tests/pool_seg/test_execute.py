"""A pool is an executor, and its executor runs programs."""

import asyncio

import pytest
from contract.support import assert_dead, helper, is_gone, outcome, returns_before_programs_end, sh
from pool.support import InstantExecutor, StubbornExecutor, named, quiet

from aiocmdpool import CommandExecutor, CommandPool, ExecutionConfig, ExecutionMode, NonZeroExit, TaskStatus
from aiocmdpool.commands.errors import ConfigError, PoolClosed, QueueFull
from aiocmdpool.pool.seg_pool import CommandPoolSeg

from .support import Thread, threads

both_loops = pytest.mark.one_loop("asyncio", "uvloop")


@both_loops
@pytest.mark.parametrize("mode", list(ExecutionMode))
async def test_programs_run_for_threads_in_every_mode(mode):
    async with CommandPoolSeg(ExecutionConfig(mode=mode, concurrency_limit=4)) as pool:

        def run(thread: int) -> list[str]:
            handles = [pool.push_task(sh(f"echo {thread}.{number}")) for number in range(5)]
            return [handle.result(30).text().strip() for handle in handles]

        outputs = await threads(4, run)
    assert outputs == [[f"{thread}.{number}" for number in range(5)] for thread in range(4)]


@both_loops
@pytest.mark.parametrize("mode", list(ExecutionMode))
async def test_a_thread_ends_a_program(mode, ready):
    async with CommandPoolSeg(ExecutionConfig(mode=mode)) as pool:
        handle = await Thread(pool.push_task, helper("grandchildren", ready.path, "stubborn", grace=0.1))
        pids = await ready.pids(4)
        with returns_before_programs_end():
            await Thread(handle.cancel)
            error = await Thread(handle.exception, 30)
        assert handle.cancelled()
        assert error.result.pid in pids
        await assert_dead(*pids)


async def test_a_failure_reaches_the_thread_with_its_output(running_pool):
    pool = await running_pool()
    handle = await Thread(pool.push_task, sh("echo why; exit 3", check=True))
    error = await outcome(Thread(handle.result, 30).result())
    assert isinstance(error, NonZeroExit)
    assert error.result.stdout == b"why\n"
    assert handle.status is TaskStatus.FAILED


async def test_executing(running_pool):
    pool = await running_pool(InstantExecutor())
    assert isinstance(pool, CommandExecutor)
    assert (await pool.execute(named("a"))).command.program == "a"
    async with CommandPool(executor=pool) as outer:
        assert (await outer.execute(named("b"))).command.program == "b"


async def test_executing_without_a_start_or_without_room_is_an_error(new_pool, held):
    pool = new_pool(held, max_size=1)
    with pytest.raises(PoolClosed, match="not started"):
        await pool.execute(named("a"))
    await pool.start_executor()
    running = asyncio.ensure_future(pool.execute(named("a")))
    await held.holds("a")
    waiting = asyncio.ensure_future(pool.execute(named("b")))
    await quiet()
    with pytest.raises(QueueFull):
        await pool.execute(named("c"))
    held.release("a")
    await held.holds("b")
    held.release("b")
    assert [result.command.program for result in await asyncio.gather(running, waiting)] == ["a", "b"]


async def test_cancelling_an_execute_ends_its_command_first(running_pool, ready):
    pool = await running_pool()
    running = asyncio.ensure_future(pool.execute(helper("ignore_sigterm", ready.path, grace=0.1)))
    pid = int(await ready.wait())
    with returns_before_programs_end():
        while not running.done():
            running.cancel()
            await asyncio.sleep(0)
    assert running.cancelled()
    assert is_gone(pid)


async def test_cancelling_an_execute_on_another_loop_ends_its_command_first(running_pool):
    executor = StubbornExecutor()
    pool = await running_pool(executor)

    async def execute_and_cancel() -> str:
        task = asyncio.ensure_future(pool.execute(named("a")))
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(executor.holds("a"), pool.loop))
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=0.05)  # only a bound on how long nothing may happen
        assert not done
        pool.loop.call_soon_threadsafe(executor.let_go.set)
        await asyncio.wait([task])
        return str(task.cancelled())

    assert await Thread(lambda: asyncio.run(execute_and_cancel())) == "True"
    assert executor.ended == ["a"]


async def test_cancelling_an_execute_in_the_queue_withdraws_it(running_pool, held):
    pool = await running_pool(held)
    running = pool.push_task(named("a"))
    await held.holds("a")
    waiting = asyncio.ensure_future(pool.execute(named("b")))
    await quiet()
    waiting.cancel()
    assert isinstance(await outcome(waiting), asyncio.CancelledError)
    assert len(pool) == 0
    held.release("a")
    assert (await running).ok
    assert held.started == ["a"]


async def test_as_many_at_once_as_there_are_workers_and_permits(new_pool, held):
    pool = new_pool(held, limit=3)
    await pool.start_executor(workers=2)
    await pool.start_executor()
    pool.push_tasks(list(map(named, "abcd")))
    await held.holds("a", "b")
    await quiet()
    assert held.held == ["a", "b"]
    held.release("a", "b")
    await held.holds("c", "d")
    held.release("c", "d")
    await pool.stop()
    assert held.most == 2


async def test_hooks_are_told_of_every_task_in_the_order_of_its_life(new_pool, held):
    told = []
    pool = new_pool(held, hooks=[lambda event: told.append((type(event).__name__, event.command.program))])
    _, gone = pool.push_tasks([named("a"), named("gone")])
    await pool.start_executor()
    await held.holds("a")
    gone.cancel()
    held.release("a")
    await pool.stop()
    assert told == [
        ("TaskQueued", "a"),
        ("TaskStarted", "a"),
        ("TaskQueued", "gone"),
        ("TaskFinished", "gone"),
        ("TaskFinished", "a"),
    ]
    assert pool.tracker.counts()[TaskStatus.CANCELLED] == 1


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("config", {"config": "PROCESS"}),
        ("executor", {"executor": object()}),
        ("permits", {"permits": 3}),
        ("history", {"history": -1}),
    ],
)
def test_what_is_wrong_is_refused_by_name(field, options):
    with pytest.raises(ConfigError) as caught:
        CommandPoolSeg(**options)
    assert caught.value.field == field
