"""What only `ThreadBackend` has: threads, of which there may be too few, and a loop that watches nothing."""

import asyncio
import contextlib
import errno
import threading

import anyio.to_thread
import pytest
from contract.support import FOREVER, helper, is_gone, outcome, returns_before_programs_end, sh

from aiocmdpool.backends.child.thread import ThreadBackend
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ConfigError, IoError, TaskCancelled
from aiocmdpool.commands.result import EndReason

pytestmark = pytest.mark.slow


@pytest.fixture
async def one_thread():
    """A backend that runs one command at a time."""
    async with ThreadBackend(1) as backend:
        yield backend


async def occupied(backend, ready) -> "asyncio.Task":
    """The command that has the only thread."""
    task = asyncio.ensure_future(backend.execute(helper("sleep_after_ready", ready.path)))
    await ready.wait()
    return task


async def waiting(backend, command) -> "asyncio.Task":
    """A command that waits for a thread; no number of turns helps it."""
    task = asyncio.ensure_future(backend.execute(command))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def cancel(task) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("threads", [0, -1, 1.5, None, "2"])
def test_a_wrong_number_of_threads_is_refused(threads):
    with pytest.raises(ConfigError) as caught:
        ThreadBackend(threads)
    assert caught.value.field == "threads"


async def test_the_event_loop_is_given_no_descriptor_and_no_timer(monkeypatch):
    """It may be one that can watch neither."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(AttributeError):  # uvloop's cannot be patched
        for method in ("add_reader", "add_writer", "call_later", "call_at"):
            monkeypatch.setattr(loop, method, lambda *_, method=method: pytest.fail(method))
    async with ThreadBackend() as backend:
        command = CommandConfig("cat", stdin=bytes(1_000_000), timeout=FOREVER, idle_timeout=FOREVER)
        assert len((await backend.execute(command)).stdout) == 1_000_000
        error = await outcome(backend.execute(CommandConfig("sleep", ["60"], timeout=0.05)))
        assert error.end_reason is EndReason.TIMEOUT


async def test_never_more_at_once_than_threads():
    async with ThreadBackend(2) as backend:
        meeting = asyncio.gather(*(backend.execute(sh("sleep 0.05")) for _ in range(6)))
        while not meeting.done():
            assert sum(thread.name.startswith("AnyIO") for thread in threading.enumerate()) <= 2
            await asyncio.wait([meeting], timeout=0.01)
        assert [result.returncode for result in await meeting] == [0] * 6


async def test_time_spent_waiting_for_a_thread_is_no_run_time(one_thread):
    long, short = sh("sleep 2"), CommandConfig("true", timeout=1.5)
    _, result = await asyncio.gather(one_thread.execute(long), one_thread.execute(short))
    assert result.ok
    assert result.duration < 2


async def test_cancelling_what_waits_for_a_thread_withdraws_it(one_thread, ready, tmp_path):
    running = await occupied(one_thread, ready)
    task = await waiting(one_thread, helper("touch_file", tmp_path / "ran"))
    with returns_before_programs_end():
        await cancel(task)
        assert not running.done()
        await cancel(running)
    assert (await one_thread.execute(CommandConfig("true"))).ok  # its place in the line is gone as well
    assert not (tmp_path / "ran").exists()


async def test_closing_settles_what_waits_for_a_thread(one_thread, ready, tmp_path):
    running = await occupied(one_thread, ready)
    command = helper("touch_file", tmp_path / "ran")
    task = await waiting(one_thread, command)
    with returns_before_programs_end():
        await one_thread.aclose()
    error = await outcome(task)
    assert isinstance(error, TaskCancelled)
    assert (error.command, error.end_reason, error.result) == (command, EndReason.CLOSED, None)
    assert (await outcome(running)).result.stdout == b"ready"
    assert not (tmp_path / "ran").exists()


async def test_the_end_of_every_task_does_not_let_a_caller_leave_before_its_program_is_gone(ready):
    """As at the end of `asyncio.run`: the task that waits for the thread is cancelled too, the thread cannot be."""
    backend = ThreadBackend()
    running = asyncio.ensure_future(backend.execute(helper("ignore_sigterm", ready.path, grace=0.1)))
    pid = int(await ready.wait())
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert is_gone(pid)


async def test_cancelling_again_and_again_does_not_let_a_caller_leave_either(ready):
    backend = ThreadBackend()
    running = asyncio.ensure_future(backend.execute(helper("ignore_sigterm", ready.path, grace=0.1)))
    pid = int(await ready.wait())
    while not running.done():
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)
    assert running.cancelled()
    assert is_gone(pid)


async def test_a_thread_that_cannot_be_started_is_an_error_that_names_the_limit(monkeypatch):
    async def no_thread(*_args: object, **_options: object) -> None:
        raise RuntimeError("can't start new thread")

    backend = ThreadBackend()
    with monkeypatch.context() as patch:
        patch.setattr(anyio.to_thread, "run_sync", no_thread)
        error = await outcome(backend.execute(CommandConfig("true")))
    assert isinstance(error, IoError)
    assert error.errno == errno.EAGAIN
    assert "limit on processes" in str(error)
    assert (await backend.execute(CommandConfig("true"))).ok


async def test_what_it_says_of_itself(one_thread, ready):
    running = await occupied(one_thread, ready)
    assert repr(one_thread) == "<ThreadBackend open, 1 running or waiting, 1 threads>"
    await cancel(running)
    await one_thread.aclose()
    assert repr(one_thread) == "<ThreadBackend closed, 0 running or waiting, 1 threads>"
