"""What a command leaves running when it exits by itself is asked to end, then killed, and named in the log."""

import logging
from pathlib import Path

import pytest

from aiocmdpool.commands.result import EndReason

from .support import assert_dead, is_dead, sh

pytestmark = pytest.mark.slow

both_loops = pytest.mark.one_loop("asyncio", "uvloop")

TIDY = """
exec >/dev/null 2>&1
sh -c 'trap "echo tidied >\\"$2\\"; exit" TERM; echo $$ >"$1"; while :; do sleep 0.01; done' sh "$1" "$2" &
read x <"$1"
echo $! >"$1"
exit 3
"""
STUBBORN = """
sh -c 'trap "" TERM; echo $$ >"$1"; exec sleep 60' sh "$1" >/dev/null 2>&1 &
read x <"$1"
echo $! >"$1"
"""


@both_loops
async def test_what_is_left_can_tidy_up(backend, ready, tmp_path: Path):
    lock = tmp_path / "lock"
    result = await backend.execute(sh(TIDY, ready.path, str(lock), leftover_grace=10.0))
    [pid] = await ready.pids(1)
    assert is_dead(pid)
    assert lock.read_text() == "tidied\n"
    assert (result.returncode, result.end_reason) == (3, EndReason.EXITED)
    assert pid in [process.pid for process in result.leaked]


@both_loops
@pytest.mark.parametrize("seconds", [0.0, 0.05])
async def test_what_does_not_end_when_asked_is_killed(backend, ready, seconds):
    result = await backend.execute(sh(STUBBORN, ready.path, leftover_grace=seconds))
    [pid] = await ready.pids(1)
    await assert_dead(pid)
    assert [process.pid for process in result.leaked] == [pid]


@both_loops
async def test_it_is_asked_with_the_stop_signal_of_the_command(backend, ready, tmp_path: Path):
    lock = tmp_path / "lock"
    script = TIDY.replace("TERM", "USR1")
    await backend.execute(sh(script, ready.path, str(lock), leftover_grace=10.0, stop_signal=10))
    assert lock.read_text() == "tidied\n"


@both_loops
async def test_a_warning_names_it(backend, ready, caplog):
    with caplog.at_level(logging.WARNING, "aiocmdpool.leftovers"):
        result = await backend.execute(sh(STUBBORN, ready.path, leftover_grace=0.0, label="a build"))
        await backend.execute(sh("exit 0"))
    [record] = [record for record in caplog.records if record.name == "aiocmdpool.leftovers"]
    assert record.getMessage().startswith(f"a build left {result.leaked[0].name} ({result.leaked[0].pid}) running")
    assert "detach=True" in record.getMessage()
