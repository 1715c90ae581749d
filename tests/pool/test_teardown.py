"""The end of `asyncio.run` with a pool in use, and what is no `Exception`: each in a Python process of its own."""

import ast
import os
import signal
import subprocess
import sys

import pytest
from contract.loops import LOOPS
from contract.support import HOST_DEADLINE, host_environment, is_gone

pytestmark = pytest.mark.slow

MODES = ["PROCESS", "PROCESS_POOL"]
ENDED = ("cancelled", "TaskCancelled")


@pytest.fixture(params=list(LOOPS))
def host(request):
    """Call it with a scenario of `hosts.py` for a Python process where any warning is an error, on each loop."""
    started = []

    def start(scenario, *args):
        argv = [sys.executable, "-W", "error", "-m", "pool.hosts", scenario, request.param, *args]
        process = subprocess.Popen(
            argv,
            env=host_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def report_of(process, words="", *, silent=True):
    """What the host has to say at its end, which must be a clean one."""
    stdout, stderr = process.communicate(words, timeout=HOST_DEADLINE)
    assert process.returncode == 0, stderr
    assert not (silent and stderr)
    return ast.literal_eval(stdout)


def pids_from(ready, count):
    return [int(ready.wait_blocking()) for _ in range(count)]


@pytest.mark.parametrize("mode", MODES)
def test_asyncio_run_ends_a_pool_in_use(host, ready, mode):
    process = host("left_in_use", mode, ready.path)
    pids = pids_from(ready, 2)
    assert report_of(process, "leave\n") == (None, [ENDED] * 5)
    assert all(map(is_gone, pids))


def test_asyncio_run_ends_a_map_in_use(host, ready):
    process = host("left_in_map", "PROCESS_POOL", ready.path)
    pids = pids_from(ready, 2)
    assert report_of(process, "leave\n") == (None, [])
    assert all(map(is_gone, pids))


@pytest.mark.parametrize("mode", MODES)
def test_asyncio_run_ends_what_runs_in_a_pool_that_nobody_stops(host, ready, mode):
    process = host("abandoned", mode, ready.path)
    pids = pids_from(ready, 2)
    # Workers that nobody closed may be complained about.
    assert report_of(process, "leave\n", silent=mode == "PROCESS") == (None, [ENDED] * 2)
    assert all(map(is_gone, pids))


def test_ctrl_c_ends_a_pool_in_use(host, ready):
    process = host("signalled", "PROCESS_POOL", ready.path)
    [pid] = pids_from(ready, 1)
    os.kill(process.pid, signal.SIGINT)
    assert report_of(process) == ("KeyboardInterrupt", [ENDED] * 2)
    assert is_gone(pid)


@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "SystemExit"])
def test_what_is_no_exception_settles_its_task_and_ends_the_loop(host, kind):
    assert report_of(host("interrupted", kind)) == (kind, [ENDED, ("failed", kind), ENDED])
