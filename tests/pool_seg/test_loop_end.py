"""The loop of a pool ends, and nobody stopped the pool: each in a Python process of its own."""

import subprocess
import sys

import pytest
from contract.loops import LOOPS
from contract.support import HOST_DEADLINE, host_environment, is_gone

pytestmark = pytest.mark.slow

CANCELLED = ("cancelled", "TaskCancelled")


@pytest.fixture(params=list(LOOPS))
def host(request):
    """Call it with a scenario of `hosts.py`, on each loop."""
    started = []

    def start(scenario, *args):
        argv = [sys.executable, "-m", "pool_seg.hosts", scenario, request.param, *args]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(argv, env=host_environment(), text=True, **pipes)
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
    assert not (silent and stderr), stderr
    return stdout.splitlines()


def test_the_end_of_asyncio_run_does_not_wait_for_a_thread_that_waits_for_a_task(host, ready):
    """It joins the threads of its executor once it has cancelled all tasks: who waits there must be woken before."""
    process = host("end_of_run", ready.path)
    pid = int(ready.wait_blocking())
    assert report_of(process, "leave\n") == [str([CANCELLED] * 2)]
    assert is_gone(pid)


def test_closing_the_loop_wakes_the_threads_that_wait(host):
    lines = report_of(host("closed_loop"), silent=False)  # the loop complains of the tasks that it was left with
    assert lines == [
        "['TaskCancelled', 'TaskCancelled'] running: the loop of its pool was closed",
        str([CANCELLED] * 2),
        *["PoolClosed the event loop of the pool is closed; make a new pool on another one"] * 2,
        "(0, True, False, 0, 0, 2)",
    ]


def test_a_fork_may_not_push_and_does_no_harm(host):
    message = "this pool belongs to the parent of this forked process; make a new one here"
    assert report_of(host("forked")) == [f"ExecuteError {message}", "True"]


def test_threads_that_push_while_the_loop_ends_are_all_told(host, tmp_path):
    lines = report_of(host("threads_at_the_end", str(tmp_path)))
    assert lines == [str((["PoolClosed"] * 4, {True}, True)), "True"]
