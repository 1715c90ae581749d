"""The end of the interpreter: no hang, no word on stderr, and nothing left behind (the leak guard looks for that)."""

import os
import signal
import sys

import pytest
from contract.support import HOST_DEADLINE, is_gone, returns_before_programs_end

pytestmark = pytest.mark.slow


def leaves(process, words="", status=0):
    """What a host says that ends well."""
    stdout, stderr = process.communicate(words, timeout=HOST_DEADLINE)
    assert (process.returncode, stderr) == (status, "")
    return stdout


@pytest.mark.parametrize("mode", ["PROCESS", "PROCESS_POOL"])
def test_a_pool_that_nobody_stops_is_closed(host, ready, mode):
    process = host("exit", "left_open", mode, ready.path)
    pid = int(ready.wait_blocking())
    leaves(process, "leave\n")
    assert is_gone(pid)


def test_sys_exit_in_the_middle(host, ready):
    process = host("exit", "exits", ready.path)
    pid = int(ready.wait_blocking())
    leaves(process, "leave\n", status=7)
    assert is_gone(pid)


def test_blocked_threads_hold_nothing_up_and_say_nothing(host, ready):
    process = host("exit", "threads_blocked", ready.path)
    pids = [int(ready.wait_blocking()) for _ in range(4)]
    leaves(process, "leave\n")
    assert all(map(is_gone, pids))


def test_threads_of_executors_are_not_waited_for_either(host, ready):
    process = host("exit", "executor_blocked", ready.path)
    pids = [int(ready.wait_blocking()) for _ in range(4)]
    stdout, stderr = process.communicate("leave\n", timeout=HOST_DEADLINE)
    assert (process.returncode, stdout) == (0, "")
    assert stderr.count("the interpreter exits: what threads of executors wait for is ended") == 1
    assert all(map(is_gone, pids))


def test_ctrl_c_at_the_very_end_changes_nothing(host, ready):
    process = host("exit", "impatient", ready.path)
    pid = int(ready.wait_blocking())
    process.stdin.write("leave\n")
    process.stdin.flush()
    assert ready.wait_blocking() == b"TERM"
    os.kill(process.pid, signal.SIGINT)
    leaves(process)
    assert is_gone(pid)


def test_an_executor_that_blocks_the_loop_is_not_waited_for(host):
    with returns_before_programs_end():
        process = host("exit", "loop_blocked")
        assert process.stdout.readline() == "blocked\n"
        leaves(process, "leave\n")


def test_a_thread_that_is_no_daemon_comes_to_its_end(host, ready, release):
    process = host("exit", "thread_goes_on", ready.path, release.path)
    ready.wait_blocking()
    release.send()
    assert leaves(process) == "go\n"


def test_a_first_use_without_main_thread_works_or_says_why_not(host):
    said = leaves(host("exit", "first_use_without_main_thread"))
    if sys.version_info[:2] == (3, 12):
        assert said.startswith("PoolClosed the main thread has ended, and this interpreter starts no threads any more")
    else:
        assert said == "went on\n"


def test_other_exit_handlers_may_use_it_as_long_as_it_is_there(host):
    assert leaves(host("exit", "used_at_exit")).splitlines() == [
        "in time",
        "PoolClosed the interpreter exits: aiocmdpool.sync takes no more commands",
    ]
