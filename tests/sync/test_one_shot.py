"""`run` and `execute`: the results and errors of the async ones, from any thread, and never in a loop's way."""

import asyncio
import errno
import traceback

import pytest
from contract.support import is_gone, sh

from aiocmdpool import CommandConfig, CommandTimeout, ConfigError, ExecuteError, IoError, NonZeroExit, sync

from .support import outcome_of

pytestmark = pytest.mark.slow


def test_run_gives_the_result():
    result = sync.run("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (result.stdout, result.stderr, result.returncode) == (b"out\n", b"err\n", 3)


def test_execute_takes_a_command():
    assert sync.execute(CommandConfig("cat", stdin=b"data")).stdout == b"data"


def test_errors_are_those_of_the_async_functions():
    with pytest.raises(NonZeroExit) as failed:
        sync.run("sh", "-c", "echo out; exit 3", check=True)
    assert failed.value.result.stdout == b"out\n"
    with pytest.raises(IoError) as missing:
        sync.run("/there/is/no/such/program")
    assert missing.value.errno == errno.ENOENT
    with pytest.raises(ConfigError):
        sync.run("true", timeout=-1)


def test_a_timeout_leaves_nothing(ready):
    with pytest.raises(CommandTimeout) as timed_out:
        sync.execute(sh('echo $$ > "$1"; sleep 60 & wait', ready.path, timeout=0.3, grace=0.05))
    assert is_gone(timed_out.value.result.pid)


def test_the_traceback_leads_from_the_caller_to_the_cause():
    with pytest.raises(IoError) as caught:
        sync.run("/there/is/no/such/program")
    files = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert files[0] == __file__
    assert files[-1].endswith("backends/workers/answers.py")


def test_threads_that_all_come_first_get_their_own_results(threads):
    futures = [threads(sync.run, "echo", str(number)) for number in range(20)]
    assert [outcome_of(future).text().strip() for future in futures] == [str(number) for number in range(20)]


@pytest.mark.one_loop
async def test_a_running_loop_is_not_blocked_but_told_of_the_async_way():
    for call in (lambda: sync.run("true"), lambda: sync.execute(CommandConfig("true")), sync.shutdown):
        with pytest.raises(ExecuteError, match=r"use aiocmdpool\.\w+ with await"):
            call()
    assert (await asyncio.to_thread(sync.run, "echo", "hello")).stdout == b"hello\n"
