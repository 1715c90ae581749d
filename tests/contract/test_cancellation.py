"""Cancelling the await of `execute`: the command is dead and reaped before `CancelledError` leaves."""

import asyncio
import contextlib
import signal
import subprocess

import psutil
import pytest

from aiocmdpool.commands.command import CommandConfig, OutputPolicy
from aiocmdpool.commands.errors import NonZeroExit

from .support import (
    HOST_DEADLINE,
    adopting,
    assert_dead,
    helper,
    host_argv,
    host_environment,
    is_gone,
    outcome,
    returns_before_programs_end,
    sh,
    with_patience,
)

KEEP_TAIL = {"max_output": 100_000, "output_policy": OutputPolicy.KEEP_TAIL}


def start(backend, command: CommandConfig) -> "asyncio.Task":
    return asyncio.ensure_future(backend.execute(command))


async def cancel(task: "asyncio.Task") -> None:
    """Cancel and wait, as a caller would: what comes out is `CancelledError` and nothing else."""
    task.cancel("from the test")
    with returns_before_programs_end(), pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_cancel_before_the_first_step_starts_nothing(backend, tmp_path):
    await cancel(start(backend, helper("touch_file", tmp_path / "ran")))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("turns", range(1, 9))
async def test_cancel_right_after_the_start_leaves_nobody(backend, turns):
    """However far the start has come; the leak guard looks for who is left."""
    task = start(backend, CommandConfig("sleep", ["60"]))
    for _ in range(turns):
        await asyncio.sleep(0)
    await cancel(task)
    assert not [child for child in psutil.Process().children() if child.name() == "sleep"]


async def test_cancel_while_running(backend, ready):
    task = start(backend, helper("sleep_after_ready", ready.path))
    pid = int(await ready.wait())
    await cancel(task)
    assert is_gone(pid)


async def test_cancel_while_feeding_stdin(backend, ready):
    task = start(backend, helper("sleep_after_ready", ready.path, stdin=bytes(1_000_000)))
    pid = int(await ready.wait())
    await cancel(task)
    assert is_gone(pid)


async def test_cancel_while_draining_stdout(backend, ready):
    task = start(backend, helper("flood_stdout", ready.path, **KEEP_TAIL))
    pid = int(await ready.wait())
    await cancel(task)
    assert is_gone(pid)


async def test_cancel_while_waiting_for_the_exit_of_a_program_without_pipes(backend, ready, release):
    task = start(backend, helper("close_pipes_live_on", ready.path, release.path))
    pid = int(await ready.wait())
    await cancel(task)
    assert is_gone(pid)


async def test_cancel_ends_the_whole_group(backend, ready):
    task = start(backend, helper("grandchildren", ready.path))
    pids = await ready.pids(4)
    await cancel(task)
    await assert_dead(*pids)


async def test_cancel_ends_grandchildren_that_ignore_term(backend, ready):
    task = start(backend, helper("grandchildren", ready.path, "stubborn", grace=0.1))
    pids = await ready.pids(4)
    await cancel(task)
    await assert_dead(*pids)


async def test_cancel_kills_a_program_that_ignores_term(backend, ready):
    task = start(backend, helper("ignore_sigterm", ready.path, grace=0.1))
    pid = int(await ready.wait())
    await cancel(task)
    assert is_gone(pid)


async def test_cancel_lets_a_program_leave_in_its_own_way(backend, ready, tmp_path):
    farewell = tmp_path / "farewell"
    task = start(backend, helper("say_goodbye", ready.path, stdout=farewell, grace=10))
    await ready.wait()
    await cancel(task)
    assert farewell.read_bytes() == b"goodbye"


async def test_cancel_twice(backend, ready):
    task = start(backend, helper("ignore_sigterm", ready.path, grace=0.2))
    pid = int(await ready.wait())
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    await cancel(task)
    assert is_gone(pid)


async def test_cancel_in_every_turn_of_the_loop(backend, ready):
    """An impatient caller shortens nothing and breaks nothing."""
    task = start(backend, helper("ignore_sigterm", ready.path, grace=0.1))
    pid = int(await ready.wait())
    with returns_before_programs_end():
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
    assert task.cancelled()
    assert is_gone(pid)


async def test_cancel_during_the_grace_of_a_timeout(backend, ready):
    async def attempt(seconds: float) -> tuple[asyncio.Task, list[bytes]]:
        ready.heard()
        task = start(backend, helper("note_sigterm", ready.path, timeout=seconds, grace=seconds))
        words = asyncio.ensure_future(two_words())
        await asyncio.wait([task, words], return_when=asyncio.FIRST_COMPLETED)
        words.cancel()
        return task, words.result() if words.done() and not task.done() else [repr(await outcome(task)).encode()]

    async def two_words() -> list[bytes]:
        return [await ready.wait(), await ready.wait()]

    task, [pid, word] = await with_patience(attempt, lambda seen: len(seen[1]) == 2)
    assert word == b"TERM"
    await cancel(task)
    assert is_gone(int(pid))


async def test_cancel_while_a_leak_is_being_drained(backend, ready):
    task = start(backend, helper("hold_stdout", ready.path, 0))
    left = int(await ready.wait())
    await asyncio.sleep(0)
    task.cancel()
    with returns_before_programs_end():
        await outcome(task)  # the program may have been over already
    await assert_dead(left)


async def test_cancel_as_the_program_exits_loses_neither(backend):
    """Whoever wins: a result or a cancellation, and nobody left."""
    for turns in range(12):
        task = start(backend, CommandConfig("true"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        value = await outcome(task)
        assert isinstance(value, asyncio.CancelledError) or value.returncode == 0


async def test_cancel_after_the_end_is_harmless(backend):
    task = start(backend, CommandConfig("true"))
    await task
    assert not task.cancel()
    assert task.result().ok


async def test_cancel_one_of_many(backend, ready):
    others = [start(backend, sh(f"exit {code}")) for code in range(5)]
    task = start(backend, helper("sleep_after_ready", ready.path))
    pid = int(await ready.wait())
    await cancel(task)
    assert [result.returncode for result in await asyncio.gather(*others)] == [0, 1, 2, 3, 4]
    assert is_gone(pid)


async def timed_out(ready, run) -> int:
    """The pid of a program that was ready when a timeout of asyncio, not of the command, ended it."""

    async def attempt(seconds: float) -> list[bytes]:
        with returns_before_programs_end(), pytest.raises(TimeoutError):
            await run(seconds)
        return ready.heard()

    [pid] = await with_patience(attempt, lambda heard: len(heard) == 1)
    return int(pid)


async def test_inside_asyncio_timeout(backend, ready):
    async def run(seconds: float) -> None:
        async with asyncio.timeout(seconds):
            await backend.execute(helper("sleep_after_ready", ready.path))

    assert is_gone(await timed_out(ready, run))


async def test_inside_wait_for(backend, ready):
    command = helper("sleep_after_ready", ready.path)
    assert is_gone(await timed_out(ready, lambda seconds: asyncio.wait_for(backend.execute(command), seconds)))


async def test_inside_wait_for_with_a_program_that_ignores_term(backend, ready):
    command = helper("ignore_sigterm", ready.path, grace=0.1)
    assert is_gone(await timed_out(ready, lambda seconds: asyncio.wait_for(backend.execute(command), seconds)))


@pytest.mark.parametrize("seconds", [0, -1])
async def test_inside_a_timeout_that_is_over(backend, seconds):
    with returns_before_programs_end(), pytest.raises(TimeoutError):
        await asyncio.wait_for(backend.execute(CommandConfig("sleep", ["60"])), seconds)


async def test_inside_a_task_group_whose_sibling_fails(backend, ready):
    pids: list[int] = []

    async def fail_when_the_other_is_there() -> None:
        pids.append(int(await ready.wait()))
        await backend.execute(sh("exit 4", check=True))

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(backend.execute(helper("sleep_after_ready", ready.path)))
            group.create_task(fail_when_the_other_is_there())

    with returns_before_programs_end():
        group = await outcome(both())
    assert [type(error) for error in group.exceptions] == [NonZeroExit]
    assert is_gone(pids[0])


async def test_the_backend_works_on_after_a_cancellation(backend, ready):
    task = start(backend, helper("sleep_after_ready", ready.path))
    await ready.wait()
    await cancel(task)
    assert (await backend.execute(CommandConfig("echo", ["on"]))).stdout == b"on\n"


async def test_the_callers_task_can_go_on_after_a_cancellation_it_caught(backend, ready):
    async def caller() -> int:
        with contextlib.suppress(asyncio.CancelledError):
            await backend.execute(helper("sleep_after_ready", ready.path))
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        return (await backend.execute(sh("exit 6"))).returncode

    task = asyncio.ensure_future(caller())
    await ready.wait()
    task.cancel()
    assert await task == 6


@pytest.mark.parametrize("loop", ["asyncio", "asyncio-debug", "uvloop"])
def test_the_end_of_asyncio_run_leaves_nobody(backend_name, loop, ready):
    with host("shut_down", backend_name, loop, ready.path, stdin=subprocess.PIPE) as process:
        pid = int(ready.wait_blocking())
        assert not is_gone(pid)
        process.communicate("end\n", timeout=HOST_DEADLINE)
        assert process.returncode == 0
        assert is_gone(pid)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_ctrl_c_ends_the_command_and_the_host(backend_name, loop, ready):
    with host("interrupted", backend_name, loop, ready.path, stderr=subprocess.PIPE) as process:
        pid = int(ready.wait_blocking())
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=HOST_DEADLINE)
        assert stderr.rstrip().endswith("KeyboardInterrupt")
        assert process.returncode == -signal.SIGINT
        assert is_gone(pid)


@contextlib.contextmanager
def host(scenario, backend, loop, *args, **options):
    argv = host_argv(scenario, backend, loop, *args)
    with adopting():
        process = subprocess.Popen(argv, env=host_environment(), text=True, **options)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()
