"""Hooks run in the context of the push, callbacks in that of whoever added them, as those of asyncio do."""

import asyncio
import contextvars

import pytest

from aiocmdpool import CommandPool, CommandPoolSeg, ExecutionConfig
from aiocmdpool.observability.events import TaskFinished, TaskQueued

from .support import InstantExecutor, named, soon

request_id = contextvars.ContextVar("request_id", default="nobody's")


@pytest.fixture(params=[CommandPool, CommandPoolSeg])
async def make_pool(request):
    """Call it with hooks for a pool that is started."""
    pools = []

    async def make(*hooks):
        pool = request.param(ExecutionConfig(concurrency_limit=2), executor=InstantExecutor(), hooks=hooks)
        pools.append(pool)
        await pool.start_executor()
        return pool

    yield make
    for pool in pools:
        await pool.stop(drain=False)


def push(pool, name):
    """Whatever it is called in the two kinds of pools."""
    return pool.try_push_task(named(name)) if isinstance(pool, CommandPool) else pool.push_task(named(name))


async def test_hooks_run_in_the_context_of_the_push(make_pool):
    seen = []

    def hook(event):
        seen.append((event.command.program, type(event).__name__, request_id.get()))

    async def call(name):
        request_id.set(name)
        await push(pool, name)

    pool = await make_pool(hook)
    await soon(asyncio.gather(call("one"), call("two")))
    kinds = ["TaskQueued", "TaskStarted", "TaskFinished"]
    for name in ("one", "two"):
        assert [entry for entry in seen if entry[0] == name] == [(name, kind, name) for kind in kinds]


async def test_what_a_hook_sets_is_there_at_the_next_event_and_nowhere_else(make_pool):
    seen = []

    def hook(event):
        if isinstance(event, TaskQueued):
            request_id.set("the hook's")
        else:
            seen.append(request_id.get())

    pool = await make_pool(hook)
    await soon(push(pool, "a"))
    assert seen == ["the hook's"] * 2
    assert request_id.get() == "nobody's"


async def test_a_hook_that_ends_the_task_it_hears_of_is_told_of_that_in_the_same_context(make_pool):
    seen, handles = [], {}

    def hook(event):
        if isinstance(event, TaskFinished):
            seen.append((event.status.value, request_id.get()))
        elif event.command.program == "a" and "a" in handles:
            handles["a"].cancel()

    pool = await make_pool(hook)
    request_id.set("mine")
    handles["a"] = push(pool, "a")
    await soon(handles["a"].wait_settled())
    assert seen == [("cancelled", "mine")]


async def test_a_callback_runs_in_the_context_in_which_it_was_added(make_pool):
    seen = []

    def note(handle):
        seen.append(request_id.get())

    pool = await make_pool()
    handle = push(pool, "a")
    request_id.set("first")
    handle.add_done_callback(note)
    given = contextvars.copy_context()
    given.run(request_id.set, "given")
    handle.add_done_callback(note, context=given)
    request_id.set("later")
    await soon(handle)
    handle.add_done_callback(note)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert seen == ["first", "given", "later"]
    assert handle.remove_done_callback(note) == 0


async def test_a_callback_can_be_taken_back_whatever_its_context(make_pool):
    seen = []
    pool = await make_pool()
    handle = push(pool, "a")
    for name in ("one", "two"):
        request_id.set(name)
        handle.add_done_callback(seen.append)
    assert handle.remove_done_callback(seen.append) == 2
    await soon(handle)
    assert seen == []
