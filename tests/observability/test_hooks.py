"""Hooks: nothing that they do can break a run, and what they raise is reported once."""

import asyncio
import logging

import pytest
from contract.support import sh

from aiocmdpool import CommandPool, ConfigError, TaskCancelled, TaskStatus
from aiocmdpool.observability.events import TaskFinished, TaskQueued, TaskStarted

from .support import Recorder, hold, settled

pytestmark = pytest.mark.slow


def raises(error):
    def hook(event):
        raise error

    return hook


@pytest.mark.parametrize("error", [ValueError("bad"), asyncio.CancelledError("bad")], ids=["error", "cancellation"])
async def test_a_hook_that_raises_breaks_nothing(running_pool, caplog, error):
    seen = Recorder()
    pool = await running_pool(raises(error), seen, limit=2)
    handles = await pool.push_tasks(sh("echo hello") for _ in range(6))
    assert [(await handle).stdout for handle in handles] == [b"hello\n"] * 6
    assert list(seen.all_kinds().values()) == [["TaskQueued", "TaskStarted", "TaskFinished"]] * 6
    assert pool.statistics().completed == 6


async def test_it_is_logged_once_for_each_hook_and_kind_with_a_traceback(running_pool, caplog):
    one, two = raises(ValueError("one")), raises(ValueError("two"))
    pool = await running_pool(one, two)
    for _ in range(3):
        await pool.execute(sh("exit 0"))
    records = [record for record in caplog.records if record.name == "aiocmdpool.hooks"]
    told = [(str(record.exc_info[1]), record.args[1]) for record in records]
    kinds = ["TaskQueued", "TaskStarted", "TaskFinished"]
    assert told == [(name, kind) for kind in kinds for name in ("one", "two")]
    assert all(record.levelno == logging.ERROR for record in records)
    assert "in hook" in caplog.text  # the line of the traceback
    assert "raise error" in caplog.text


@pytest.mark.parametrize("kind", [TaskQueued, TaskStarted])
async def test_a_hook_may_cancel_what_it_hears_of(running_pool, kind):
    handles = []

    def cancel(event):
        if isinstance(event, kind):
            if kind is TaskQueued:
                pool.clear()  # the handle is not even known to the pusher
            else:
                handles[0].cancel()

    pool = await running_pool(cancel)
    handles.append(await pool.push_task(sh("exec sleep 60")))
    await settled(*handles)
    assert handles[0].status is TaskStatus.CANCELLED
    with pytest.raises(TaskCancelled):
        await handles[0]
    await pool.stop()
    assert pool.statistics().cancelled == 1


async def test_a_hook_may_push(running_pool):
    again = []

    def push(event):
        if isinstance(event, TaskFinished) and not again:
            again.append(pool.try_push_task(sh("echo again")))

    pool = await running_pool(push)
    await pool.execute(sh("exit 0"))
    assert (await again[0]).stdout == b"again\n"


async def test_a_hook_that_leaves_the_program_does_not_leave_a_task_behind(running_pool):
    """`sys.exit()` in a hook is meant for the program; the task is settled all the same."""
    left = []

    def leave(event):
        if isinstance(event, TaskStarted):
            raise SystemExit(3)

    loop = asyncio.get_running_loop()
    pool = await running_pool(leave)
    run_tasks = pool._tasks.run_tasks

    async def runner():
        try:
            await run_tasks(pool._life.executor)
        except SystemExit as leaving:
            left.append(leaving.code)

    for task in pool._life._runners._runners:
        task.cancel()
    handle = await pool.push_task(sh("exit 0"))
    await loop.create_task(runner())
    assert left == [3]
    assert handle.status is TaskStatus.FAILED
    assert pool.statistics().running == 0


@pytest.mark.parametrize("hooks", [3, [None], ["hook"]], ids=["no list", "nothing", "a name"])
async def test_what_is_no_hook_is_refused(hooks):
    with pytest.raises(ConfigError, match="hooks") as caught:
        CommandPool(hooks=hooks)
    assert caught.value.field == "hooks"


async def test_a_coroutine_function_is_refused():
    """Calling it would do nothing but warn that it was never awaited."""

    async def hook(event):
        pass

    class Hook:
        async def __call__(self, event):
            pass

    for each in hook, Hook():
        with pytest.raises(ConfigError, match=r"hooks\[1\].* is a coroutine function"):
            CommandPool(hooks=[print, each])


async def test_hooks_are_called_in_their_order(running_pool, ready, release):
    order = []
    pool = await running_pool(lambda event: order.append(1), lambda event: order.append(2))
    handle = await pool.push_task(hold(ready, release))
    await ready.wait()
    assert order == [1, 2, 1, 2]
    release.send()
    await handle
    assert order == [1, 2] * 3
