"""Daemons that a detached command left: they outlive the worker and the host, and nothing else does."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from contract.support import HOST_DEADLINE, assert_dead, helper, host_environment, is_dead

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import WorkerLost
from aiocmdpool.standalone.kernel import cgroup

from .ending_hosts import DAEMON
from .support import in_background, sh, until
from .test_hosts import assert_all_die

pytestmark = pytest.mark.slow


@pytest.fixture(params=["with groups", "without groups"])
def groups(request, monkeypatch) -> None:
    """With control groups, where there are any, and without."""
    if request.param == "without groups":
        monkeypatch.setattr(cgroup, "own_directory", lambda: "")
    elif not cgroup.own_directory():
        pytest.skip("this process may not divide its control group")


@contextlib.contextmanager
def killed_at_the_end(pid: int) -> Iterator[None]:
    """The daemon is ours to end; it must still be there."""
    try:
        yield
        assert not is_dead(pid), "the daemon is dead"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def lose_the_worker(pool) -> None:
    lost = pool.statistics().lost
    os.kill(pool.statistics().pids[0], signal.SIGKILL)
    await until(lambda: pool.statistics().lost == lost + 1)


async def test_a_daemon_outlives_a_killed_worker(new_pool, ready, release, groups):
    pool = new_pool(1)
    assert (await pool.execute(sh(DAEMON, ready.path, release.path, detach=True))).ok
    pid = int(await ready.wait())
    with killed_at_the_end(pid):
        await lose_the_worker(pool)
        assert not is_dead(pid)
        assert (await pool.execute(CommandConfig("true"))).ok
        await pool.aclose()
    await assert_dead(pid)


async def test_a_daemon_outlives_a_worker_that_is_killed_with_other_commands(new_pool, ready, release, groups):
    pool = new_pool(1)
    await pool.execute(sh(DAEMON, ready.path, release.path, detach=True))
    pid = int(await ready.wait())
    with killed_at_the_end(pid):
        [running] = in_background(pool, helper("double_fork", ready.path, "stay", "session"))
        others = await ready.pids(2)
        await lose_the_worker(pool)
        assert isinstance(await running, WorkerLost)
        assert all(map(is_dead, others))
    await assert_dead(pid)


async def test_a_daemon_whose_command_runs_is_dead_when_the_worker_is_lost(new_pool, ready, release, groups):
    """The command did not end by itself."""
    pool = new_pool(1)
    [running] = in_background(pool, sh(f"{DAEMON}; exec sleep 60", ready.path, release.path, detach=True))
    pid = int(await ready.wait())
    await lose_the_worker(pool)
    assert isinstance(await running, WorkerLost)
    await assert_dead(pid)


@pytest.mark.one_loop("asyncio", "uvloop")
async def test_a_daemon_outlives_a_worker_that_is_replaced(new_pool, ready, release):
    pool = new_pool(1, recycle_after=1)
    await pool.execute(sh(DAEMON, ready.path, release.path, detach=True))
    pid = int(await ready.wait())
    with killed_at_the_end(pid):
        await pool.execute(CommandConfig("true"))
        await until(lambda: not pool._leaving)
    await assert_dead(pid)


@pytest.mark.one_loop("asyncio", "uvloop")
async def test_a_daemon_that_ends_is_reaped_and_forgotten(new_pool, ready, release):
    pool = new_pool(1)
    await pool.execute(sh(DAEMON, ready.path, release.path, detach=True))
    pid = int(await ready.wait())
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not os.path.exists(f"/proc/{pid}"))
    result = await pool.execute(helper("double_fork", ready.path, "leave", "session"))
    escaped, _ = await ready.pids(2)
    assert [leak.pid for leak in result.leaked] == [escaped]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_daemon_outlives_a_killed_host(ready, release, tmp_path, loop):
    go = tmp_path / "go"
    os.mkfifo(go)
    scenario = ["leaves_a_daemon_and_is_killed", loop, ready.path, release.path, str(go)]
    argv = [sys.executable, "-m", "process_pool.ending_hosts", *scenario]
    with subprocess.Popen(argv, env=host_environment()) as host:
        daemon, *others = (int(ready.wait_blocking()) for _ in range(4))
        with killed_at_the_end(daemon):
            go.write_text("go\n")
            assert host.wait(HOST_DEADLINE) == -signal.SIGKILL
            assert_all_die(others)
    assert_all_die([daemon])
