"""The log: one line for each end, at a level that means something, with fields, and without secrets."""

import logging
import os
import signal
import subprocess
import sys

import pytest
from contract.support import host_environment, sh
from pool.support import named

from aiocmdpool import CommandConfig, ProcessPool
from aiocmdpool.backends.workers import crew
from aiocmdpool.backends.workers import worker as worker_module
from aiocmdpool.observability import task_log

from .support import hold, settled

pytestmark = pytest.mark.slow

FIELDS = {"task_id", "command", "status", "returncode", "end_reason", "queued", "spawn", "run"}


@pytest.fixture(autouse=True)
def all_levels(caplog):
    caplog.set_level(logging.DEBUG, logger="aiocmdpool")


def lines(caplog):
    return [record for record in caplog.records if record.name == "aiocmdpool.pool"]


async def test_a_success_is_told_at_debug_with_its_fields(running_pool, caplog):
    pool = await running_pool()
    handle = await pool.push_task(sh("exit 0", label="a job"))
    result = await handle
    [line] = lines(caplog)
    assert line.levelno == logging.DEBUG
    assert line.getMessage() == f"a job: exit status 0 in {result.duration:.3f} s"
    fields = {name: getattr(line, name) for name in FIELDS}
    assert fields.pop("spawn") >= 0
    assert fields == {
        "task_id": handle.id,
        "command": "a job",
        "status": "completed",
        "returncode": 0,
        "end_reason": "exited",
        "queued": result.queued,
        "run": result.duration,
    }


@pytest.mark.parametrize(
    ("command", "level", "status", "reason"),
    [
        (sh("exit 3"), logging.DEBUG, "completed", "exited"),
        (sh("exit 3", check=True), logging.INFO, "failed", "exited"),
        (sh("exec sleep 60", timeout=0.05), logging.INFO, "failed", "timeout"),
        (sh("exec yes", max_output=100), logging.INFO, "failed", "output_limit"),
        (CommandConfig("no-such-program-here"), logging.INFO, "failed", None),
    ],
    ids=["not checked", "checked", "timeout", "output limit", "not found"],
)
async def test_levels(running_pool, caplog, command, level, status, reason):
    pool = await running_pool()
    handle = await pool.push_task(command)
    await settled(handle)
    [line] = lines(caplog)
    assert (line.levelno, line.status, line.end_reason) == (level, status, reason)
    if level == logging.INFO:
        assert line.getMessage() == str(handle.exception())


async def test_a_cancellation_is_told_at_debug(running_pool, caplog):
    pool = await running_pool()
    handle = await pool.push_task(sh("exit 0"))
    handle.cancel()
    [line] = lines(caplog)
    assert (line.levelno, line.status, line.returncode) == (logging.DEBUG, "cancelled", None)


async def test_a_lost_worker_is_a_warning_of_both(running_pool, caplog, ready, release, monkeypatch):
    monkeypatch.setattr(worker_module, "PROVEN_AFTER", 3600.0)  # however long the machine takes until it is killed
    pool = await running_pool()
    handle = await pool.push_task(hold(ready, release))
    await ready.wait()
    [worker] = pool.worker_statistics().pids
    os.kill(worker, signal.SIGKILL)
    await settled(handle)
    [line] = lines(caplog)
    assert (line.levelno, line.status) == (logging.WARNING, "failed")
    lost, back_off = [record for record in caplog.records if record.name == "aiocmdpool.process_pool"]
    assert lost.levelno == back_off.levelno == logging.WARNING
    assert "was killed by signal 9" in lost.getMessage()
    assert (lost.worker_pid, lost.completed) == (worker, 0)
    assert "the next worker is started in 0.1 s" in back_off.getMessage()  # it had proven nothing yet


async def test_an_exception_that_is_none_of_ours_is_a_warning_with_its_traceback(running_pool, caplog):
    class Broken:
        async def execute(self, command):
            raise LookupError("bad")

    pool = await running_pool(executor=Broken())
    handle = await pool.push_task(named("a"))
    await settled(handle)
    [line] = lines(caplog)
    assert line.levelno == logging.WARNING
    assert line.getMessage() == "a: its executor failed: LookupError('bad')"
    assert line.exc_info[1] is handle.exception()


@pytest.mark.parametrize(("limit", "level"), [("recycle_after", logging.INFO), ("max_worker_memory", logging.WARNING)])
async def test_a_worker_that_is_replaced(caplog, limit, level, monkeypatch):
    monkeypatch.setattr(crew, "LOOK_AT_MEMORY_EVERY", 1)
    async with ProcessPool(1, **{limit: 1}) as pool:
        await pool.execute(sh("exit 0"))
        assert pool.statistics().recycled == 1
    [line] = [record for record in caplog.records if record.name == "aiocmdpool.process_pool"]
    assert (line.levelno, line.completed) == (level, 1)


# -- what must not be there --------------------------------------------------------------------------------------------


async def test_secrets_are_never_in_the_log(running_pool, caplog, ready, release):
    """Every field of every record of every logger, for every ending."""
    secret = {"env": {"TOKEN": "hunter-two"}, "stdin": b"hunter-two"}
    pool = await running_pool(limit=2)
    handles = await pool.push_tasks(
        [
            sh("cat", **secret),
            sh("exit 3", check=True, **secret),
            sh("exec sleep 60", timeout=0.05, **secret),
            sh("exec yes", max_output=100, **secret),
            CommandConfig("no-such-program-here", **secret),
        ]
    )
    await settled(*handles)
    running = await pool.push_task(hold(ready, release, **secret))
    await ready.wait()
    os.kill(pool.worker_statistics().pids[0], signal.SIGKILL)
    await settled(running)
    running = await pool.push_task(hold(ready, release, **secret))
    await ready.wait()
    await pool.stop(drain=False)
    assert len(lines(caplog)) == 7
    for record in caplog.records:
        formatted = logging.Formatter().format(record)
        assert "hunter" not in formatted
        for value in vars(record).values():
            assert "hunter" not in repr(value)


# -- what it costs, and whom it bothers --------------------------------------------------------------------------------


async def test_nothing_is_formatted_for_a_level_that_is_off(running_pool, caplog, monkeypatch):
    caplog.set_level(logging.INFO, logger="aiocmdpool")
    shown = []
    monkeypatch.setattr(CommandConfig, "display", lambda self, limit=120: shown.append(self) or "")
    pool = await running_pool()
    await pool.execute(sh("exit 0"))
    assert (shown, lines(caplog)) == ([], [])


@pytest.mark.one_loop
async def test_a_log_that_raises_breaks_nothing(running_pool, monkeypatch, capsys):
    def broken(record):
        raise ValueError("a broken filter")

    monkeypatch.setattr(task_log.POOL_LOG, "filters", [broken])
    pool = await running_pool()
    assert (await pool.execute(sh("echo hello"))).stdout == b"hello\n"
    assert "a broken filter" in capsys.readouterr().err


def test_a_program_that_sets_up_no_logging_hears_nothing():
    script = """if 1:
        import asyncio, os, signal
        from aiocmdpool import *
        async def main():
            async with CommandPool(ExecutionConfig(workers=1)) as pool:
                await pool.execute(CommandConfig("true"))
                os.kill(pool.worker_statistics().pids[0], signal.SIGKILL)
                await pool.execute(CommandConfig("true", idempotent=True))
        asyncio.run(main())"""
    ran = subprocess.run([sys.executable, "-c", script], env=host_environment(), capture_output=True, check=True)
    assert (ran.stdout, ran.stderr) == (b"", b"")
