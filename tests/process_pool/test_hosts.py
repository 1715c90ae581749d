"""Hosts that end in every way there is, and hosts that use a pool where it does not belong."""

import ast
import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import Any

import psutil
import pytest
from contract.support import HOST_DEADLINE, host_environment, is_dead

pytestmark = pytest.mark.slow

loops = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])

GONE = 15.0  # seconds within which everything is dead; it takes about half a second, and the machine may be busy


def argv_of_host(scenario: str, loop: str, *args: object) -> list[str]:
    return [sys.executable, "-m", "process_pool.hosts", scenario, loop, *map(str, args)]


def see(scenario: str, loop: str, **options: Any) -> list[Any]:
    """What a host prints, which must end well and without a word on stderr."""
    argv = argv_of_host(scenario, loop)
    argv[1:1] = ["-W", "error", "-W", "ignore::DeprecationWarning"]  # 3.12 warns of forks with threads
    options = {"stderr": subprocess.PIPE, **options}
    host = subprocess.run(
        argv, check=False, env=host_environment(), text=True, stdout=subprocess.PIPE, timeout=HOST_DEADLINE, **options
    )
    assert (host.returncode, host.stderr or "") == (0, ""), host.stderr
    return [ast.literal_eval(line) for line in host.stdout.splitlines()]


@loops
@pytest.mark.parametrize(
    ("scenario", "programs", "status"),
    [
        ("ends_normally", 1, 0),
        ("raises", 8, 1),
        ("exits_at_once", 8, 7),
        ("is_killed", 8, -signal.SIGKILL),
        ("is_blocked_and_killed", 8, -signal.SIGKILL),
    ],
)
def test_nothing_outlives_a_host(ready, release, loop, scenario, programs, status):
    """Neither workers nor programs, those that ignore TERM and those that ran away included."""
    argv = argv_of_host(scenario, loop, ready.path, release.path)
    with subprocess.Popen(argv, env=host_environment(), stderr=subprocess.DEVNULL) as host:
        pids = [int(ready.wait_blocking()) for _ in range(2 + programs)]
        assert not any(map(is_dead, pids))
        release.send()
        assert host.wait(HOST_DEADLINE) == status
        assert_all_die(pids)


@loops
def test_nothing_outlives_a_killed_host_whose_workers_are_stopped(ready, release, loop):
    """They go on when it dies, and so see that."""
    argv = argv_of_host("is_killed", loop, ready.path, release.path)
    with subprocess.Popen(argv, env=host_environment(), stderr=subprocess.DEVNULL) as host:
        pids = [int(ready.wait_blocking()) for _ in range(10)]
        workers = psutil.Process(host.pid).children()
        assert len(workers) == 2
        for worker in workers:
            worker.suspend()
        release.send()
        assert host.wait(HOST_DEADLINE) == -signal.SIGKILL
        try:
            assert_all_die(pids)
        finally:
            for worker in workers:
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.resume()


def assert_all_die(pids: list[int]) -> None:
    deadline = time.monotonic() + GONE
    while living := [pid for pid in pids if not is_dead(pid)]:
        assert time.monotonic() < deadline, f"still alive: {living} of {pids}"
        time.sleep(0.005)


@loops
def test_nothing_outlives_a_killed_host_though_a_fork_of_it_holds_its_descriptors(ready, release, loop):
    argv = argv_of_host("is_killed_and_has_a_fork", loop, ready.path, release.path)
    with subprocess.Popen(argv, env=host_environment(), stderr=subprocess.DEVNULL, start_new_session=True) as host:
        try:
            pids = [int(ready.wait_blocking()) for _ in range(10)]
            release.send()
            assert host.wait(HOST_DEADLINE) == -signal.SIGKILL
            assert_all_die(pids)
        finally:
            kill_group(host.pid)


def kill_group(leader: int) -> None:
    """The fork lives on in the session of the host."""
    os.killpg(leader, signal.SIGKILL)


@loops
def test_a_forked_child_is_told_that_the_pool_is_not_its_own(loop):
    error, after = see("forks", loop)
    assert error.startswith("ExecuteError: this process pool belongs to")
    assert after == "fine\n"


def test_a_forked_child_that_goes_on_with_the_loop_is_told_as_well():
    error, after = see("forks_with_its_loop", "asyncio")
    assert error.startswith("ExecuteError: this process pool belongs to the parent of this forked process")
    assert after == "fine\n"


@loops
def test_a_second_loop_is_told_that_the_pool_belongs_to_the_first(loop):
    *errors, after = see("uses_two_loops", loop)
    for error in errors:
        assert error.startswith("ExecuteError: this process pool belongs to another event loop")
    assert after == "fine\n"


@loops
def test_a_pool_whose_loop_has_ended_leaves_no_worker_when_it_is_closed(loop):
    assert see("outlives_its_loop", loop) == [[False, False]]


@loops
def test_streams_of_the_host_are_inherited(loop, tmp_path):
    with open(tmp_path / "in", "w+") as source, open(tmp_path / "err", "w+") as errors:
        source.write("on the stdin of the host")
        source.seek(0)
        argv = argv_of_host("inherits", loop)
        options = {"stdin": source, "stderr": errors, "stdout": subprocess.PIPE, "timeout": HOST_DEADLINE}
        host = subprocess.run(argv, check=True, env=host_environment(), text=True, **options)
        errors.seek(0)
        assert errors.read() == "on the stderr of the host\n"
    assert host.stdout.splitlines() == ["on the stdin of the host", "(0, None, None)"]


@loops
def test_a_worker_keeps_no_output_of_commands_that_are_over(loop):
    assert see("may_write_no_large_files", loop) == [20_000_000] * 8 + [True]


@loops
def test_a_host_that_ignores_sigchld_loses_a_worker_without_a_stumble(loop):
    assert see("ignores_sigchld", loop) == [7, 0, "WorkerLost", 7, []]


@loops
def test_without_pidfd_nothing_is_lost_and_dead_workers_are_replaced(loop):
    assert see("has_no_pidfd", loop) == [True, 7, 1]


@loops
@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no scheduling policies here")
def test_without_word_of_its_scheduling_policy_a_host_runs_commands_and_is_followed(loop):
    assert see("cannot_ask_for_its_scheduling_policy", loop) == [7, True, 0o27, False]
