"""What a command leaves behind, and pipes that say something else than the exit does."""

import asyncio

import pytest

from aiocmdpool.commands.command import Stdio
from aiocmdpool.commands.result import EndReason, LeakedProcess

from .support import FOREVER, assert_dead, helper, is_gone, pattern, returns_before_programs_end, sh

pytestmark = pytest.mark.slow


async def test_a_grandchild_that_holds_the_pipe_does_not_hold_the_result(backend, ready):
    with returns_before_programs_end():
        result = await backend.execute(helper("hold_stdout", ready.path, 3))
    left = int(await ready.wait())
    assert (result.returncode, result.stdout, result.end_reason) == (3, b"done", EndReason.EXITED)
    assert result.duration < FOREVER / 2
    assert [leak.pid for leak in result.leaked] == [left]
    assert isinstance(result.leaked[0], LeakedProcess)
    assert result.leaked[0].name
    await assert_dead(left)


async def test_a_leak_is_no_failure(backend, ready):
    result = await backend.execute(helper("hold_stdout", ready.path, 0, check=True))
    assert result.ok
    assert result.leaked


async def test_a_grandchild_without_the_pipes_is_a_leak_as_well(backend, ready):
    with returns_before_programs_end():
        result = await backend.execute(helper("hold_stdout", ready.path, 0, "quiet"))
    left = int(await ready.wait())
    assert [leak.pid for leak in result.leaked] == [left]
    await assert_dead(left)


async def test_a_leak_that_ignores_term_is_dead_as_well(backend, ready):
    with returns_before_programs_end():
        result = await backend.execute(helper("hold_stdout", ready.path, 0, "stubborn", grace=0.1))
    left = int(await ready.wait())
    assert [leak.pid for leak in result.leaked] == [left]
    await assert_dead(left)


async def test_a_double_forked_grandchild_is_a_leak(backend, ready):
    with returns_before_programs_end():
        result = await backend.execute(helper("double_fork", ready.path, "leave"))
    left, _ = await ready.pids(2)
    assert [leak.pid for leak in result.leaked] == [left]
    await assert_dead(left)


async def test_a_grandchild_in_its_own_session_does_not_hold_the_result_and_is_reported(backend, ready):
    with returns_before_programs_end():
        result = await backend.execute(helper("double_fork", ready.path, "leave", "session"))
    escaped, _ = await ready.pids(2)
    assert result.returncode == 0
    assert [leak.pid for leak in result.leaked] == [escaped]
    await assert_dead(escaped)


async def test_all_that_was_left_is_listed(backend):
    result = await backend.execute(sh("sleep 60 & echo $!; sleep 60 & echo $!"))
    left = [int(line) for line in result.text().split()]
    assert sorted(leak.pid for leak in result.leaked) == sorted(left)
    assert {leak.name for leak in result.leaked} <= {"sleep", "sh"}
    await assert_dead(*left)


async def test_output_before_the_exit_is_whole_when_a_grandchild_holds_the_pipe(backend, tmp_path):
    data = pattern(1_000_000)
    (tmp_path / "data").write_bytes(data)
    result = await backend.execute(sh(f"sleep 60 & cat '{tmp_path}/data'"))
    assert result.stdout == data
    assert result.leaked


async def test_a_grandchild_that_floods_the_held_pipe_does_not_hold_the_result(backend):
    with returns_before_programs_end():
        result = await backend.execute(sh("cat /dev/zero & exit 4"))
    assert result.returncode == 4
    assert result.leaked


async def test_a_grandchild_that_holds_stdin_does_not_hold_the_result(backend):
    with returns_before_programs_end():
        result = await backend.execute(sh("sleep 60 <&0 >/dev/null 2>&1 & exit 4", stdin=bytes(1_000_000)))
    assert result.returncode == 4
    assert result.leaked


async def test_background_jobs_that_were_waited_for_are_no_leak(backend):
    result = await backend.execute(sh("echo a & echo b & wait"))
    assert sorted(result.text().split()) == ["a", "b"]
    assert result.leaked == ()


async def test_closed_pipes_are_no_exit(backend, ready, release):
    command = helper("close_pipes_live_on", ready.path, release.path, stdin=bytes(1_000_000))
    running = asyncio.ensure_future(backend.execute(command))
    pid = int(await ready.wait())
    # Only a bound on how long nothing may happen; a backend that takes the end of the pipes for the exit is done.
    done, _ = await asyncio.wait([running], timeout=0.1)
    assert not done
    release.send()
    result = await running
    assert (result.returncode, result.stdout, result.leaked) == (9, b"bye", ())
    assert is_gone(pid)


async def test_a_leak_is_seen_with_every_stream_elsewhere(backend):
    quiet = {"stdout": Stdio.NULL, "stderr": Stdio.NULL}
    with returns_before_programs_end():
        result = await backend.execute(sh("sleep 60 & exit 2", **quiet))
    assert result.returncode == 2
    assert [leak.name for leak in result.leaked] in (["sleep"], ["sh"])
    await assert_dead(result.leaked[0].pid)
