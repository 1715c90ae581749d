"""Log handlers, filters and warnings that raise: everything is ended and told all the same."""

import asyncio
import logging
import os
import subprocess
import sys
import time
import warnings

import pytest
from contract.support import HOST_DEADLINE, host_environment, is_gone, outcome, sh

from aiocmdpool import CommandConfig, CommandPool, ExecutionConfig, TaskCancelled, TaskStatus
from aiocmdpool.backends import single_commands
from aiocmdpool.backends.workers import lending
from aiocmdpool.backends.workers.process_pool import ProcessPool
from aiocmdpool.observability.events import TaskFinished
from aiocmdpool.policies import Retry

from .support import settled

pytestmark = pytest.mark.slow


class Abort(BaseException):
    """No `Exception`."""


@pytest.fixture(params=[ValueError, Abort, DeprecationWarning])
def raising_log(request, monkeypatch):
    """Everything is logged, and each time the handler raises."""
    seen = []

    class Raising(logging.Handler):
        def emit(self, record):
            seen.append(record)
            raise request.param("in a log handler")

    log, handler = logging.getLogger("aiocmdpool"), Raising()
    monkeypatch.setattr(logging, "raiseExceptions", False)
    level = log.level
    log.setLevel(logging.DEBUG)
    log.addHandler(handler)
    yield seen
    log.removeHandler(handler)
    log.setLevel(level)


def raise_at_the_end(event):
    if isinstance(event, TaskFinished):
        raise ValueError("in a hook")


async def test_runs_of_a_pool_end_as_they_would(raising_log):
    async with CommandPool(ExecutionConfig(concurrency_limit=2), hooks=[raise_at_the_end]) as pool:
        results = await asyncio.gather(*(pool.execute(sh("echo hello")) for _ in range(6)))
        assert [result.stdout for result in results] == [b"hello\n"] * 6
        assert isinstance(await outcome(pool.execute(CommandConfig("/no/such/program"))), OSError)
        handles = await pool.push_tasks([sh("exec sleep 60")] * 9)
        await pool.stop(drain=False)
    await settled(*handles)
    assert {handle.status for handle in handles} == {TaskStatus.CANCELLED}
    assert {type(handle.exception()) for handle in handles} == {TaskCancelled}
    assert len(raising_log) >= 16


async def test_a_lost_worker_is_replaced(raising_log):
    async with ProcessPool(1) as pool:
        for _ in range(2):
            await pool.execute(sh("exit 0"))
            [pid] = pool.statistics().pids
            os.kill(pid, 9)
            while pid in pool.statistics().pids:
                await asyncio.sleep(0.001)
        assert (await pool.execute(sh("exit 0"))).ok
        assert pool.statistics().lost == 2
    assert any("was lost" in record.getMessage() for record in raising_log)


async def test_what_a_command_leaves_running_is_no_error(raising_log, backend):
    result = await backend.execute(sh("sleep 60 & exit 3", leftover_grace=0))
    assert result.returncode == 3
    assert len(result.leaked) == 1


async def test_a_policy_goes_on(raising_log, backend):
    outcomes = []
    retry = Retry(backend, attempts=3, retry_if=lambda result: True, on_retry=outcomes.append)
    await retry.execute(sh("exit 1"))
    assert len(outcomes) == 2


FORGET = """
import asyncio, gc, sys, threading
from aiocmdpool import CommandConfig, ProcessPool

async def use():
    pools.append(ProcessPool(2))
    await pools[0].execute(CommandConfig("true"))
    return pools[0].statistics().pids

pools = []
loop = asyncio.new_event_loop()
print(*loop.run_until_complete(use()), flush=True)
loop.close()
del loop
if sys.argv[1] == "forgotten":
    pools.clear()
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "aiocmdpool-unclosed-workers":
            thread.join()
print("over", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("end", ["forgotten", "kept to the exit"])
def test_a_pool_that_is_not_closed_under_w_error_takes_its_workers_along(end):
    """The warning that tells of it is an exception then; the workers are ended before it."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    argv = [sys.executable, "-W", "error", "-c", FORGET, end]
    with subprocess.Popen(argv, env=host_environment(), text=True, **pipes) as host:
        pids = [int(pid) for pid in host.stdout.readline().split()]
        assert host.stdout.readline() == "over\n"
        assert [is_gone(pid) for pid in pids] == [end == "forgotten"] * 2
        _, stderr = host.communicate("leave\n", timeout=HOST_DEADLINE)
    assert stderr.count("ResourceWarning: a ProcessPool with 2 running workers was not closed") == 1
    deadline = time.monotonic() + HOST_DEADLINE
    while not all(map(is_gone, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Unwritable:
    """A stderr that is closed, or a pipe that nobody reads."""

    def __init__(self, error):
        self._error = error

    def write(self, text):
        raise self._error

    def flush(self):
        raise self._error


@pytest.mark.parametrize("stderr", [None, Unwritable(ValueError("closed")), Unwritable(BrokenPipeError())])
async def test_a_pool_goes_on_where_the_failure_of_a_log_cannot_be_printed(raising_log, stderr, monkeypatch, capsys):
    def hook(event):
        raise ValueError("in a hook")

    with monkeypatch.context() as patch:
        patch.setattr(logging, "raiseExceptions", True)
        patch.setattr(sys, "stderr", stderr)
        async with CommandPool(ExecutionConfig(concurrency_limit=1), hooks=[hook]) as pool:
            results = [await pool.execute(sh("echo hi")) for _ in range(2)]
            reasons = pool.health().reasons
    assert [result.text() for result in results] == ["hi\n"] * 2
    assert raising_log
    assert not any("Broken" in reason or "closed" in reason for reason in reasons)
    assert capsys.readouterr().out == ""  # `traceback` would print there without a stderr


@pytest.mark.parametrize(
    "error", [OSError("log disk full"), RuntimeWarning("as an error"), DeprecationWarning("other")]
)
async def test_single_commands_run_where_the_warning_about_them_raises(error, monkeypatch):
    """`logging.captureWarnings` brings the log handlers into `warnings.warn`; filters make errors of them."""
    seen = []

    def show(*args, **options):
        seen.append(args)
        raise error

    monkeypatch.setenv("AIOCMDPOOL_PYTHON", "/bin/false")
    monkeypatch.setattr(single_commands._Workers, "missing_until", 0.0)
    monkeypatch.setattr(single_commands._Workers, "was_told", False)
    monkeypatch.setattr(logging, "raiseExceptions", False)
    await lending.give_up()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        commands = single_commands.SingleCommands()
        try:
            assert (await commands.execute(sh("echo hi"))).text() == "hi\n"
        finally:
            await commands.aclose()
    assert len(seen) == 1
