"""Events: of every task, for every way to end, in order, complete, and true."""

import asyncio
import contextvars
import dataclasses
import os
import signal

import pytest
from contract.support import sh
from pool.support import HeldExecutor, named, result_of

from aiocmdpool import (
    CommandConfig,
    CommandTimeout,
    EndReason,
    IoError,
    NonZeroExit,
    OutputLimitExceeded,
    OutputPolicy,
    TaskCancelled,
    TaskStatus,
    WorkerLost,
)
from aiocmdpool.observability.events import OutputLimitReached, TaskFinished, TaskQueued, TaskStarted

from .support import PATIENCE, Recorder, hold, settled

pytestmark = pytest.mark.slow

WHOLE = ["TaskQueued", "TaskStarted", "TaskFinished"]
NEVER_STARTED = ["TaskQueued", "TaskFinished"]
LIMITED = ["TaskQueued", "TaskStarted", "OutputLimitReached", "TaskFinished"]


@pytest.fixture
def seen():
    return Recorder()


async def test_a_success(running_pool, seen):
    pool = await running_pool(seen)
    command = sh("echo hello")
    handle = await pool.push_task(command, priority=3)
    result = await handle
    assert seen.kinds(handle) == WHOLE
    queued, started, finished = seen.events
    assert (queued.command, queued.priority, queued.time) == (command, 3, handle.pushed_at)
    assert (started.command, started.time, started.pushed_at) == (command, handle.started_at, handle.pushed_at)
    assert (finished.status, finished.result, finished.error) == (TaskStatus.COMPLETED, result, None)
    assert finished.end_reason is EndReason.EXITED
    assert (finished.pushed_at, finished.started_at) == (handle.pushed_at, handle.started_at)
    assert finished.queued == started.queued == result.queued
    assert finished.run == result.duration
    assert finished.queued + finished.spawn + finished.run == pytest.approx(finished.time - finished.pushed_at)


async def test_times_are_in_order(running_pool, seen):
    pool = await running_pool(seen, limit=3)
    await settled(*await pool.push_tasks(sh("exit 0") for _ in range(20)))
    times = [event.time for event in seen.events if not isinstance(event, TaskStarted)]
    assert times == sorted(times)
    for event in seen.events:
        if isinstance(event, TaskFinished):
            assert event.pushed_at <= event.started_at <= event.time
    assert list(seen.all_kinds().values()) == [WHOLE] * 20


async def test_an_exit_status_that_is_checked(running_pool, seen):
    pool = await running_pool(seen)
    handle = await pool.push_task(sh("exit 3", check=True))
    with pytest.raises(NonZeroExit) as caught:
        await handle
    finished = seen.finished(handle)
    assert seen.kinds(handle) == WHOLE
    assert (finished.status, finished.error, finished.result) == (TaskStatus.FAILED, caught.value, caught.value.result)
    assert (finished.end_reason, finished.run) == (EndReason.EXITED, caught.value.result.duration)


async def test_an_exit_status_that_is_not_checked(running_pool, seen):
    pool = await running_pool(seen)
    handle = await pool.push_task(sh("exit 3"))
    await handle
    assert (seen.finished(handle).status, seen.finished(handle).result.returncode) == (TaskStatus.COMPLETED, 3)


async def test_a_timeout(running_pool, seen):
    pool = await running_pool(seen)
    handle = await pool.push_task(sh("exec sleep 60", timeout=0.05))
    await settled(handle)
    finished = seen.finished(handle)
    assert seen.kinds(handle) == WHOLE
    assert isinstance(finished.error, CommandTimeout)
    assert (finished.status, finished.end_reason) == (TaskStatus.FAILED, EndReason.TIMEOUT)
    assert finished.result.signal == signal.SIGTERM


async def test_an_output_limit_that_ends_the_command(running_pool, seen):
    pool = await running_pool(seen)
    handle = await pool.push_task(sh("exec yes", max_output=1000))
    await settled(handle)
    finished = seen.finished(handle)
    assert seen.kinds(handle) == LIMITED
    assert isinstance(finished.error, OutputLimitExceeded)
    assert finished.end_reason is EndReason.OUTPUT_LIMIT
    assert seen.events[2].result is finished.result


@pytest.mark.parametrize("policy", [OutputPolicy.KEEP_HEAD, OutputPolicy.KEEP_TAIL])
async def test_an_output_limit_that_only_cuts(running_pool, seen, policy):
    pool = await running_pool(seen)
    handle = await pool.push_task(sh("seq 1000", max_output=10, output_policy=policy))
    result = await handle
    assert seen.kinds(handle) == LIMITED
    assert isinstance(seen.events[2], OutputLimitReached)
    assert seen.events[2].result == result
    assert seen.finished(handle).status is TaskStatus.COMPLETED


async def test_a_program_that_does_not_exist(running_pool, seen):
    pool = await running_pool(seen)
    handle = await pool.push_task(CommandConfig("no-such-program-here"))
    await settled(handle)
    finished = seen.finished(handle)
    assert seen.kinds(handle) == WHOLE
    assert isinstance(finished.error, IoError)
    assert (finished.result, finished.run, finished.spawn, finished.end_reason) == (None, None, None, None)


async def test_a_cancellation_before_the_start(running_pool, seen, ready, release):
    pool = await running_pool(seen)
    running = await pool.push_task(hold(ready, release))
    await ready.wait()
    waiting = await pool.push_task(sh("exit 0"))
    waiting.cancel()
    assert seen.kinds(waiting) == NEVER_STARTED  # at once
    finished = seen.finished(waiting)
    assert (finished.status, finished.end_reason) == (TaskStatus.CANCELLED, EndReason.CANCELLED)
    assert isinstance(finished.error, TaskCancelled)
    assert (finished.started_at, finished.run, finished.spawn) == (None, None, None)
    assert finished.queued == finished.time - finished.pushed_at
    release.send()
    await running


async def test_a_cancellation_while_it_runs(running_pool, seen, ready, release):
    pool = await running_pool(seen)
    handle = await pool.push_task(hold(ready, release))
    await ready.wait()
    handle.cancel()
    await settled(handle)
    finished = seen.finished(handle)
    assert seen.kinds(handle) == WHOLE
    assert (finished.status, finished.end_reason) == (TaskStatus.CANCELLED, EndReason.CANCELLED)
    assert finished.result.signal == signal.SIGTERM
    assert finished.run == finished.result.duration


async def test_a_queue_timeout(running_pool, seen, ready, release):
    pool = await running_pool(seen)
    running = await pool.push_task(hold(ready, release))
    await ready.wait()
    late = await pool.push_task(sh("exit 0"), queue_timeout=0.01)
    await settled(late)
    finished = seen.finished(late)
    assert seen.kinds(late) == NEVER_STARTED
    assert (finished.status, finished.end_reason) == (TaskStatus.FAILED, EndReason.QUEUE_TIMEOUT)
    assert isinstance(finished.error, CommandTimeout)
    release.send()
    await running


async def test_the_stop_of_the_pool(running_pool, seen, ready, release):
    pool = await running_pool(seen)
    running, waiting = await pool.push_tasks([hold(ready, release), sh("exit 0")])
    await ready.wait()
    await pool.stop(drain=False)
    assert (seen.kinds(running), seen.kinds(waiting)) == (WHOLE, NEVER_STARTED)
    for handle in running, waiting:
        finished = seen.finished(handle)
        assert (finished.status, finished.end_reason) == (TaskStatus.CANCELLED, EndReason.CLOSED)
    assert seen.finished(running).result is not None


async def test_the_loss_of_a_worker(running_pool, seen, ready, release):
    pool = await running_pool(seen)
    handle = await pool.push_task(hold(ready, release))
    await ready.wait()
    [worker] = pool.worker_statistics().pids
    os.kill(worker, signal.SIGKILL)
    await settled(handle)
    finished = seen.finished(handle)
    assert seen.kinds(handle) == WHOLE
    assert isinstance(finished.error, WorkerLost)
    assert (finished.status, finished.result, finished.run) == (TaskStatus.FAILED, None, None)


async def test_what_is_taken_off_the_queue(running_pool, seen, ready, release):
    pool = await running_pool(seen)
    running, popped, cleared = await pool.push_tasks([hold(ready, release), sh("exit 1"), sh("exit 2")])
    await ready.wait()
    pool.pop_task()
    assert seen.kinds(popped) == NEVER_STARTED
    pool.clear()
    assert seen.kinds(cleared) == NEVER_STARTED
    release.send()
    await running


async def test_it_is_told_before_anybody_goes_on(running_pool, seen):
    pool = await running_pool(seen)
    handle = await pool.push_task(sh("exit 0"))
    handle.add_done_callback(lambda _: seen.events.append("callback"))
    await handle
    assert isinstance(seen.events[2], TaskFinished)


async def test_the_push_is_told_in_the_context_of_the_pusher(running_pool):
    """Which is what a parent of spans is found by; the runners of the pool have the context of whoever started it."""
    who = contextvars.ContextVar("who", default="nobody")
    heard = []
    pool = await running_pool(lambda event: isinstance(event, TaskQueued) and heard.append(who.get()))

    async def push(name):
        who.set(name)
        await pool.execute(sh("exit 0"))

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(push("a"), push("b"))
    assert sorted(heard) == ["a", "b"]


async def test_an_executor_of_somebody_elses(running_pool, seen):
    """Its durations may be anything; what is made of them is no less than nothing."""

    class Odd:
        async def execute(self, command):
            return result_of(command, duration=1000.0)

    pool = await running_pool(seen, executor=Odd())
    handle = await pool.push_task(named("a"))
    await handle
    assert (seen.finished(handle).run, seen.finished(handle).spawn) == (1000.0, 0.0)


async def test_an_executor_that_fails(running_pool, seen):
    held = HeldExecutor()
    pool = await running_pool(seen, executor=held)
    handle = await pool.push_task(named("a"))
    await held.holds("a")
    held.fail("a", LookupError("bad"))
    await settled(handle)
    assert seen.kinds(handle) == WHOLE
    assert isinstance(seen.finished(handle).error, LookupError)
    assert seen.finished(handle).end_reason is None


async def test_events_are_frozen(running_pool, seen):
    pool = await running_pool(seen)
    await pool.execute(sh("exit 0"))
    for event in seen.events:
        with pytest.raises(dataclasses.FrozenInstanceError):
            event.task_id = 1
