"""Ctrl-C, and what else a signal handler raises, in a blocked call: the command is dead and reaped before it leaves."""

import os
import signal

import pytest
from contract.support import HOST_DEADLINE, is_gone

pytestmark = pytest.mark.slow

PLACES = ["execute", "pool", "process_pool", "result", "seg_result", "map", "map_as_completed", "stop"]


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "SystemExit")])
def test_an_interruption_ends_the_command_before_it_leaves(host, ready, where, number, raised):
    process = host("interruption", "interrupted", where, ready.path)
    pid = int(ready.wait_blocking())
    os.kill(process.pid, number)
    assert process.stdout.readline() == f"{raised}\n"
    assert is_gone(pid)
    assert process.communicate("go on\n", timeout=HOST_DEADLINE) == ("hello\n", "")
    assert process.returncode == 0


@pytest.mark.parametrize("where", ["execute", "result", "seg_result"])
def test_more_of_them_change_nothing(host, ready, where):
    process = host("interruption", "interrupted", where, ready.path)
    pid = int(ready.wait_blocking())
    for _ in range(3):
        os.kill(process.pid, signal.SIGINT)
    assert process.stdout.readline() == "KeyboardInterrupt\n"
    assert is_gone(pid)
    assert process.communicate("go on\n", timeout=HOST_DEADLINE) == ("hello\n", "")


def test_an_interrupted_push_leaves_nothing_in_the_queue(host, ready):
    process = host("interruption", "waits_for_room", ready.path)
    assert process.communicate(timeout=HOST_DEADLINE) == ("1 1\n", "")


def test_a_task_whose_handle_nobody_has_is_cancelled(host):
    process = host("interruption", "interrupted_once_pushed")
    assert process.communicate(timeout=HOST_DEADLINE) == ("1 1\n", "")


def test_interruptions_at_any_moment_leave_the_facade_whole(host):
    process = host("interruption", "storm", 150)
    assert process.communicate(timeout=HOST_DEADLINE) == ("150 0 0 hello\n", "")
    assert process.returncode == 0
