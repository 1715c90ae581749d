"""Workers in control groups of their own, where that can be had; and that nothing depends on it."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract.support import HOST_DEADLINE, assert_dead, helper, host_environment, is_dead

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import WorkerLost
from aiocmdpool.commands.result import KillTier
from aiocmdpool.standalone.kernel import cgroup

from .support import hold, in_background, pairs, sh, until
from .test_hosts import GONE, argv_of_host, assert_all_die

pytestmark = pytest.mark.slow

OWN = cgroup.own_directory()
needs_group = pytest.mark.skipif(not OWN, reason="this process may not divide its control group")
both_loops = pytest.mark.one_loop("asyncio", "uvloop")

NAMELESS = 'setsid -f env -i sh -c \'echo $$ >"$1"; exec sleep 60\' sh "$1" >/dev/null 2>&1; exec sleep 60'


def group_of(pid: int) -> Path:
    """The directory of the control group that a process is in."""
    [line] = [line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::")]
    return Path(OWN) / line.rpartition("/")[2]


@pytest.fixture
def without_groups(monkeypatch) -> Iterator[None]:
    monkeypatch.setattr(cgroup, "own_directory", lambda: "")
    yield
    monkeypatch.undo()


@needs_group
async def test_what_wiped_its_environment_and_left_dies_with_a_killed_worker(new_pool, ready):
    pool = new_pool(1)
    [running] = in_background(pool, sh(NAMELESS, ready.path))
    escaped = int(await ready.wait())
    [worker] = pool.statistics().pids
    assert group_of(escaped) == group_of(worker) != Path(OWN)
    os.kill(worker, signal.SIGKILL)
    error = await running
    assert isinstance(error, WorkerLost)
    assert error.killed_by is KillTier.CGROUP
    assert is_dead(escaped)


@needs_group
@both_loops
async def test_each_worker_has_a_group_that_is_removed_when_the_pool_is_closed(new_pool):
    pool = new_pool(2)
    await pool.start()
    await until(lambda: len(pool._workers) == 2 and all(worker.ready for worker in pool._workers))
    groups = {group_of(pid) for pid in pool.statistics().pids}
    assert len(groups) == 2
    assert all(group.name.startswith(cgroup.PREFIX) and group.is_dir() for group in groups)
    await pool.aclose()
    assert not any(group.exists() for group in groups)


@needs_group
@both_loops
@pytest.mark.parametrize("busy", [True, False])
async def test_the_group_of_a_killed_worker_is_removed(new_pool, ready, release, busy):
    pool = new_pool(1)
    await pool.execute(CommandConfig("true"))
    running = in_background(pool, *[hold(ready, release)] * (2 if busy else 0))
    held = await pairs(ready, len(running))
    [worker] = pool.statistics().pids
    group = group_of(worker)
    os.kill(worker, signal.SIGKILL)
    await until(lambda: pool.statistics().lost == 1)
    assert {type(await end) for end in running} <= {WorkerLost}
    assert all(is_dead(pid) for pid, _ in held)
    assert not group.exists()


@needs_group
@pytest.mark.parametrize("scenario", ["is_killed", "exits_at_once", "raises"])
def test_the_groups_of_a_host_that_ends_are_removed(ready, release, scenario):
    argv = argv_of_host(scenario, "asyncio", ready.path, release.path)
    with subprocess.Popen(argv, env=host_environment(), stderr=subprocess.DEVNULL) as host:
        pids = [int(ready.wait_blocking()) for _ in range(10)]
        groups = {group_of(pid) for pid in pids} - {Path(OWN)}
        assert len(groups) == 2
        release.send()
        host.wait(HOST_DEADLINE)
        assert_all_die(pids)
    assert_removed(groups)


def assert_removed(groups: set[Path]) -> None:
    """The workers do that last of all, and nobody here can wait for them."""
    deadline = time.monotonic() + GONE
    while left := [group for group in groups if group.exists()]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.005)


@needs_group
@both_loops
async def test_the_group_of_a_host_that_died_is_removed_by_the_next_one(new_pool):
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    stale = Path(OWN, f"{cgroup.PREFIX}{dead.pid}-feedc0de")
    stale.mkdir()
    pool = new_pool(1)
    await pool.execute(CommandConfig("true"))
    assert not stale.exists()


@needs_group
def test_groups_of_hosts_that_live_are_left_alone():
    """One that a worker has not entered yet is as empty as that of the dead."""
    first = cgroup.make(OWN, "feedc0de01")
    second = cgroup.make(OWN, "feedc0de02")
    try:
        assert os.path.isdir(first)
        assert os.path.isdir(second)
    finally:
        assert cgroup.remove(first)
        assert cgroup.remove(second)


async def test_without_a_group_everything_works(new_pool, ready, release, without_groups):
    pool = new_pool(1)
    assert (await pool.execute(sh("echo fine"))).stdout == b"fine\n"
    result = await pool.execute(helper("double_fork", ready.path, "leave", "session"))
    escaped, _ = await ready.pids(2)
    assert [leak.pid for leak in result.leaked] == [escaped]
    [running] = in_background(pool, helper("double_fork", ready.path, "stay", "session"))
    pids = await ready.pids(2)
    os.kill(pool.statistics().pids[0], signal.SIGKILL)
    error = await running
    assert isinstance(error, WorkerLost)
    assert error.killed_by is KillTier.DESCENDANTS
    await assert_dead(*pids)
    assert (await pool.execute(sh("echo fine"))).stdout == b"fine\n"
    await pool.aclose()


@needs_group
@both_loops
async def test_a_group_that_cannot_be_made_is_none(new_pool, monkeypatch, tmp_path):
    """Such as where the directory can be written and the kernel says no all the same."""
    monkeypatch.setattr(cgroup, "own_directory", lambda: str(tmp_path / "missing"))
    pool = new_pool(1)
    assert (await pool.execute(sh("echo fine"))).stdout == b"fine\n"
    monkeypatch.setattr(cgroup, "own_directory", lambda: str(tmp_path))
    pool = new_pool(1)
    assert (await pool.execute(sh("echo fine"))).stdout == b"fine\n"
    await pool.aclose()
    assert list(tmp_path.iterdir()) == []


@both_loops
async def test_a_lost_worker_says_what_it_took(new_pool, ready, release):
    pool = new_pool(1)
    [running] = in_background(pool, hold(ready, release))
    [(pid, worker)] = await pairs(ready, 1)
    os.kill(worker, signal.SIGKILL)
    error = await running
    assert isinstance(error, WorkerLost)
    assert error.killed_by is (KillTier.CGROUP if OWN else KillTier.DESCENDANTS)
    await assert_dead(pid)
