"""`aclose` and what comes after it."""

import asyncio
import contextlib

import pytest

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ExecuteError, PoolClosed, TaskCancelled
from aiocmdpool.commands.result import EndReason

from .backends import BACKENDS
from .support import assert_dead, helper, is_gone, outcome, returns_before_programs_end


async def test_close_ends_what_is_running_and_tells_who_waits(backend, ready):
    command = helper("sleep_after_ready", ready.path)
    running = asyncio.ensure_future(backend.execute(command))
    pid = int(await ready.wait())
    with returns_before_programs_end():
        await backend.aclose()
    assert is_gone(pid)
    error = await outcome(running)
    assert isinstance(error, TaskCancelled)
    assert isinstance(error, ExecuteError)
    assert error.command is command
    assert error.end_reason is EndReason.CLOSED
    assert error.result.stdout == b"ready"
    assert not running.cancelled()


async def test_close_ends_whole_groups_and_those_who_ignore_term(backend, ready):
    running = asyncio.ensure_future(backend.execute(helper("grandchildren", ready.path, "stubborn", grace=0.1)))
    pids = await ready.pids(4)
    with returns_before_programs_end():
        await backend.aclose()
    await assert_dead(*pids)
    assert isinstance(await outcome(running), TaskCancelled)


async def test_close_ends_many(backend, backend_name):
    running = [asyncio.ensure_future(backend.execute(CommandConfig("sleep", ["60"]))) for _ in range(20)]
    await asyncio.sleep(0)
    with returns_before_programs_end():
        await backend.aclose()
    # One that was still on its way through a policy comes too late.
    expected = (TaskCancelled, PoolClosed) if backend_name == "policies" else TaskCancelled
    for error in await asyncio.gather(*running, return_exceptions=True):
        assert isinstance(error, expected)


async def test_close_twice_and_at_once_is_harmless(backend, ready):
    running = asyncio.ensure_future(backend.execute(helper("ignore_sigterm", ready.path, grace=0.1)))
    pid = int(await ready.wait())
    await asyncio.gather(backend.aclose(), backend.aclose())
    assert is_gone(pid)
    await backend.aclose()
    assert isinstance(await outcome(running), TaskCancelled)


async def test_cancelling_the_await_while_it_is_closed_is_a_cancellation(backend, ready):
    running = asyncio.ensure_future(backend.execute(helper("ignore_sigterm", ready.path, grace=0.2)))
    pid = int(await ready.wait())
    closing = asyncio.ensure_future(backend.aclose())
    await asyncio.sleep(0)
    running.cancel()
    await closing
    assert is_gone(pid)
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_closed_backend_takes_nothing(backend, tmp_path):
    await backend.aclose()
    command = helper("touch_file", tmp_path / "ran")
    with pytest.raises(PoolClosed) as caught:
        await backend.execute(command)
    assert caught.value.command is command
    assert not (tmp_path / "ran").exists()


async def test_leaving_the_context_closes(backend_name, ready):
    async with BACKENDS[backend_name]() as backend:
        running = asyncio.ensure_future(backend.execute(helper("sleep_after_ready", ready.path)))
        pid = int(await ready.wait())
    assert is_gone(pid)
    assert isinstance(await outcome(running), TaskCancelled)


async def test_an_error_in_the_context_closes_and_passes(backend_name, ready):
    seen = []

    async def fail_in_the_context() -> None:
        async with BACKENDS[backend_name]() as backend:
            seen.append(asyncio.ensure_future(backend.execute(helper("sleep_after_ready", ready.path))))
            seen.append(int(await ready.wait()))
            raise ZeroDivisionError

    assert isinstance(await outcome(fail_in_the_context()), ZeroDivisionError)
    running, pid = seen
    assert is_gone(pid)
    assert isinstance(await outcome(running), TaskCancelled)


async def test_two_backends_on_one_loop_do_not_disturb_each_other(backend, backend_name, ready):
    running = asyncio.ensure_future(backend.execute(helper("sleep_after_ready", ready.path)))
    await ready.wait()
    async with BACKENDS[backend_name]() as other:
        assert (await other.execute(CommandConfig("echo"))).ok
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_an_unused_backend_opens_and_closes(backend_name):
    async with BACKENDS[backend_name]():
        pass


@pytest.mark.one_loop
async def test_leaving_closes_what_was_not_entered_by_itself(backend_name, ready):
    if backend_name in ("policies", "command_pool", "command_pool_seg"):
        pytest.skip("the backends themselves")
    async with contextlib.AsyncExitStack() as stack:
        backend = BACKENDS[backend_name]()
        stack.push_async_exit(backend)
        running = asyncio.ensure_future(backend.execute(helper("sleep_after_ready", ready.path)))
        pid = int(await ready.wait())
    assert is_gone(pid)
    assert isinstance(await outcome(running), TaskCancelled)
