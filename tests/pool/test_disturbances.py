"""What is no `Exception`, and cancellations that nobody has sent: the task gets it, the runners go on, health tells."""

import asyncio
import threading
import time

import anyio
import pytest
from contract.support import helper, is_gone, outcome, sh

from aiocmdpool import (
    CommandPool,
    CommandPoolSeg,
    EndReason,
    ExecuteError,
    ExecutionConfig,
    ProcessBackend,
    TaskCancelled,
    TaskStatus,
    execute_pipeline,
)
from aiocmdpool.observability.events import TaskFinished, TaskQueued, TaskStarted
from aiocmdpool.observability.health import HealthState
from aiocmdpool.pool import disturbances, runners

from .support import StubbornExecutor, named, quiet, result_of, settled, soon


class Abort(BaseException):
    """As `pytest.fail` raises it."""


class Playing:
    """Plays the one scene for commands called "bad"; all others end well."""

    def __init__(self, scene):
        self._scene = scene

    async def execute(self, command):
        await asyncio.sleep(0)
        if command.program == "bad":
            await self._scene()
        return result_of(command)


async def assert_goes_on(pool, bad):
    """That each of three bad commands ends with this error, and others are run behind them."""
    handles = await pool.push_tasks([named("bad"), named("a"), named("bad"), named("bad"), named("b")])
    await soon(settled(handles))
    assert [type(handle.exception()) for handle in handles] == [bad, type(None), bad, bad, type(None)]
    assert (await soon(pool.execute(named("last")))).ok
    now = pool.statistics()
    assert (now.queued, now.running, now.completed) == (0, 0, 6 if bad is type(None) else 3)


def health_of(pool):
    health = pool.health()
    return health.state, " ".join(health.reasons)


# -- executors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Abort, GeneratorExit])
@pytest.mark.parametrize("limit", [1, 2])
async def test_a_base_exception_of_an_executor_is_the_outcome_of_its_task(running_pool, error, limit):
    async def scene():
        raise error("bad")

    pool = await running_pool(Playing(scene), limit=limit)
    assert health_of(pool) == (HealthState.HEALTHY, "")
    await assert_goes_on(pool, error)
    state, reasons = health_of(pool)
    assert state is HealthState.DEGRADED
    assert "disturbed the pool 3 times; the last time, bad ended with " in reasons


async def cancel_now():
    asyncio.current_task().cancel()
    await asyncio.sleep(0)


async def cancel_soon():
    asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
    await asyncio.sleep(60)


async def cancel_from_a_task():
    task = asyncio.current_task()

    async def cancel():
        task.cancel()

    helper = asyncio.create_task(cancel())
    await asyncio.sleep(60)
    await helper


async def cancel_from_a_thread():
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(task.cancel,))
    thread.start()
    thread.join()
    await asyncio.sleep(60)


@pytest.mark.parametrize("scene", [cancel_now, cancel_soon, cancel_from_a_task, cancel_from_a_thread])
async def test_an_executor_may_cancel_the_task_it_runs_in(running_pool, scene):
    pool = await running_pool(Playing(scene))
    await assert_goes_on(pool, TaskCancelled)
    assert health_of(pool)[0] is HealthState.DEGRADED


async def test_a_cancellation_that_is_taken_back_hits_nobody(running_pool):
    """Before Python 3.13, `uncancel` takes the count back, and the next await is cancelled all the same."""

    async def scene():
        asyncio.current_task().cancel()
        asyncio.current_task().uncancel()

    pool = await running_pool(Playing(scene))
    handles = await pool.push_tasks([named("bad"), named("good"), named("bad"), named("fine")])
    await settled(handles)
    assert [handle.status for handle in handles] == [TaskStatus.COMPLETED] * 4
    assert await soon(pool.execute(named("next")))


async def test_a_cancellation_that_a_hook_takes_back_hits_nobody():
    """A hook of a task that a thread has pushed runs in the runner, before the task does."""

    def hook(event):
        if isinstance(event, TaskQueued) and asyncio.current_task().get_name().startswith("aiocmdpool-runner"):
            asyncio.current_task().cancel()
            asyncio.current_task().uncancel()

    pool = CommandPoolSeg(ExecutionConfig(concurrency_limit=1), executor=Playing(quiet), hooks=[hook])
    handles = pool.push_tasks([named("good"), named("fine")])
    async with pool:
        await settled(handles)
    assert [handle.status for handle in handles] == [TaskStatus.COMPLETED] * 2


async def test_a_cancellation_that_comes_after_its_run_hits_nobody(running_pool):
    """It is still to be delivered when the executor returns; the next await of its runner gets it."""

    async def scene():
        asyncio.current_task().cancel()

    pool = await running_pool(Playing(scene))
    await assert_goes_on(pool, type(None))


async def test_a_cancellation_that_comes_late_does_not_take_the_task_which_waits_for_a_permit(running_pool):
    tasks = []

    async def scene():
        tasks.append(asyncio.current_task())

    permits = asyncio.Semaphore(1)
    pool = await running_pool(Playing(scene), permits=permits)
    await pool.execute(named("bad"))
    await permits.acquire()
    handle = await pool.push_task(named("a"))
    await quiet()
    for _ in range(3):
        tasks[0].cancel()
        await quiet()
    assert handle.status is TaskStatus.PENDING
    permits.release()
    assert (await soon(handle)).ok
    assert (await soon(pool.execute(named("b")))).ok


async def test_a_cancel_scope_that_is_left_open_dies_with_its_runner(running_pool):
    """anyio cancels the task which has entered it again and again, in each turn of the loop."""
    scopes = []

    async def scene():
        scopes.append(anyio.CancelScope())
        scopes[-1].__enter__()
        scopes[-1].cancel()

    pool = await running_pool(Playing(scene))
    for _ in range(3):
        assert (await soon(pool.execute(named("bad")))).ok
        await quiet()
        assert (await soon(pool.execute(named("a")))).ok
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert len([name for name in names if name.startswith("aiocmdpool-runner")]) == 1


async def test_what_disturbed_it_is_told_for_a_while(running_pool, monkeypatch):
    async def scene():
        raise Abort

    pool = await running_pool(Playing(scene))
    await outcome(pool.execute(named("bad")))
    assert health_of(pool)[0] is HealthState.DEGRADED
    monkeypatch.setattr(disturbances, "RECENT", -1.0)
    assert health_of(pool) == (HealthState.HEALTHY, "")


# -- hooks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [TaskQueued, TaskStarted])
async def test_a_base_exception_of_a_hook_is_the_outcome_of_its_task(running_pool, held, kind):
    heard = []

    def hook(event):
        if isinstance(event, kind) and event.command.program == "bad":
            raise Abort("in a hook")

    async def scene():
        raise AssertionError("it must not be run")

    pool = await running_pool(Playing(scene), hooks=[hook, heard.append])
    await assert_goes_on(pool, Abort)
    assert health_of(pool)[0] is HealthState.DEGRADED
    bad = [type(event) for event in heard if event.command.program == "bad"]
    assert bad.count(TaskQueued) == bad.count(TaskFinished) == 3


async def test_a_base_exception_of_a_hook_at_the_end_goes_to_the_loop(running_pool):
    """The task has its outcome already; so have all those that end in the same moment."""
    told = []
    loop = asyncio.get_running_loop()
    guard = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: told.append(type(context["exception"])))

    def hook(event):
        if isinstance(event, TaskFinished):
            raise Abort

    try:
        permits = asyncio.Semaphore(1)
        await permits.acquire()
        pool = await running_pool(Playing(None), hooks=[hook], permits=permits)
        handles = await pool.push_tasks([named("a")] * 5)
        assert pool.clear() == 5
        await soon(settled(handles))
        permits.release()
        assert (await soon(pool.execute(named("b")))).ok
        await soon(pool.stop())
        assert told == [Abort] * 6
    finally:
        loop.set_exception_handler(guard)


# -- executors that do not end ----------------------------------------------------------------------------------------


@pytest.fixture
def little_patience(monkeypatch):
    monkeypatch.setattr(runners, "OVERTIME", 0.05)


@pytest.fixture
async def stubborn():
    """Swallows every cancellation until `let_go` is set."""
    executor = StubbornExecutor()
    yield executor
    executor.let_go.set()
    await quiet()


def brief(name):
    return named(name, grace=0, leftover_grace=0)


async def test_a_run_that_swallows_its_cancellation_is_given_up(running_pool, little_patience, stubborn):
    pool = await running_pool(stubborn)
    handle = await pool.push_task(brief("a"))
    await stubborn.holds("a")
    handle.cancel()
    error = await soon(outcome(handle))
    assert isinstance(error, TaskCancelled)
    assert str(error) == ("a: cancelled while it ran, but its executor goes on 0.05 s later and is left to itself")
    assert handle.status is TaskStatus.CANCELLED
    assert "is left to itself" in health_of(pool)[1]
    following = await pool.push_task(brief("b"))
    await stubborn.holds("b")  # there is a permit, and a runner
    stubborn.release("b")
    assert (await following).ok


@pytest.mark.parametrize("drain", [True, False])
async def test_a_stop_does_not_wait_for_it(running_pool, little_patience, stubborn, drain):
    pool = await running_pool(stubborn, limit=2)
    handles = await pool.push_tasks(map(brief, "abcd"))
    await stubborn.holds("a", "b")
    await soon(pool.stop(drain=drain, timeout=0.01))
    assert [handle.status for handle in handles] == [TaskStatus.CANCELLED] * 4
    assert handles[0].exception().end_reason is EndReason.CLOSED


async def test_a_cancelled_execute_does_not_wait_for_it(running_pool, little_patience, stubborn):
    pool = await running_pool(stubborn)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await pool.execute(brief("a"))


async def test_what_comes_of_it_later_changes_nothing(running_pool, little_patience, stubborn):
    permits = asyncio.Semaphore(1)
    pool = await running_pool(stubborn, permits=permits)
    handle = await pool.push_task(brief("a"))
    await stubborn.holds("a")
    handle.cancel()
    await soon(settled([handle]))
    before = pool.statistics()
    stubborn.let_go.set()
    await quiet()
    assert pool.statistics() == before
    assert permits._value == 1


async def test_a_stop_from_inside_a_run_is_refused(running_pool):
    """It would wait for the run that waits for it."""

    async def scene():
        await pool.stop()

    pool = await running_pool(Playing(scene))
    error = await soon(outcome(pool.execute(named("bad"))))
    assert isinstance(error, ExecuteError)
    assert "stop() waits for the run that has called it" in str(error)
    assert not pool.is_stopped()
    assert (await soon(pool.execute(named("a")))).ok


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="there are none before 3.12")
@pytest.mark.one_loop
async def test_a_runner_that_ends_as_soon_as_it_is_made_is_replaced(new_pool):
    """With eager tasks, a runner runs, and may end, before whoever makes it has it."""

    class Instant:
        async def execute(self, command):
            if command.program == "bad":
                raise Abort
            return result_of(command)

    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    pool = new_pool(Instant())
    handles = await pool.push_tasks([named("bad"), named("bad"), named("a")])
    await pool.start_executor()
    await soon(settled(handles))
    assert handles[2].result().ok
    await soon(pool.stop())
    loop.set_task_factory(None)


# -- what ends the loop -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["executor", TaskQueued, TaskStarted, TaskFinished])
def test_a_loop_that_is_run_again_after_an_interruption_finds_its_pool_at_work(error, where):
    def interrupt(event):
        if isinstance(event, where) and event.command.program == "bad":
            raise error("stop all")

    async def scene():
        if where == "executor":
            raise error("stop all")

    async def start():
        await pool.start_executor()

    async def use():
        return await pool.execute(named("bad"))

    hooks = [] if where == "executor" else [interrupt]
    pool = CommandPool(ExecutionConfig(concurrency_limit=1), executor=Playing(scene), hooks=hooks)
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        loop.run_until_complete(start())
        for _ in range(2):
            task = loop.create_task(use())
            with pytest.raises(error):
                loop.run_until_complete(task)
            task.cancel()
            for _ in range(5):  # turns; not `run_until_complete`: what the last one has asked for may stop it at once
                loop.call_soon(loop.stop)
                loop.run_forever()
            assert task.done()
            task.cancelled() or task.exception()
        assert loop.run_until_complete(soon(pool.execute(named("good")))).ok
        loop.run_until_complete(pool.stop())


async def test_a_host_that_stood_still_still_hears_how_a_cancelled_run_has_ended(running_pool, monkeypatch):
    """Its executor has ended meanwhile; only the news of that is late."""
    monkeypatch.setattr(runners, "OVERTIME", 0.2)
    monkeypatch.setattr(runners, "BEAT", 0.02)
    running = asyncio.Event()

    class Obedient:
        async def execute(self, command):
            running.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0.05)
                raise

    pool = await running_pool(Obedient())
    handle = await pool.push_task(brief("a"))
    await soon(running.wait())
    handle.cancel()
    time.sleep(0.5)  # longer than all of its patience
    await soon(settled([handle]))
    assert "left to itself" not in str(handle.exception())
    assert pool.health().state is HealthState.HEALTHY


async def test_a_pipeline_has_the_grace_of_its_slowest_stage(running_pool, ready, monkeypatch):
    monkeypatch.setattr(runners, "OVERTIME", 0.0)
    pool = await running_pool(ProcessBackend())
    slow = sh('trap "sleep 1; exit 0" TERM; echo $$ >"$1"; while :; do sleep 0.05; done', ready.path, grace=20.0)
    pipeline = helper("ignore_sigterm", "/dev/null", grace=0.1) | slow
    task = asyncio.ensure_future(execute_pipeline(pipeline, executor=pool))
    pid = int(await ready.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert is_gone(pid)
    assert pool.health().state is HealthState.HEALTHY


async def test_an_error_that_cannot_be_shown_disturbs_nothing(running_pool, held):
    class Bad(BaseException):
        def __repr__(self):
            raise ValueError("no")

    class Hook:
        def __call__(self, event):
            if isinstance(event, TaskFinished):
                raise Bad

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    pool = await running_pool(held, hooks=[Hook()])
    handles = await pool.push_tasks([named(str(number)) for number in range(20)])
    assert pool.clear() >= 19
    await soon(settled(handles[1:]))
    assert "Bad" in pool.health().reasons[0]
