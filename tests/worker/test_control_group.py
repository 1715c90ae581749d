"""A worker in a control group of its own: whatever is in there goes with it, and so does the group."""

import os
import signal
import subprocess
import sys

import pytest

from aiocmdpool.standalone.kernel import cgroup
from aiocmdpool.standalone.wire import frames

from .fake_parent import FakeParent
from .support import assert_all_die, wait_until

OWN = cgroup.own_directory()
pytestmark = pytest.mark.skipif(not OWN, reason="this process may not divide its control group")


@pytest.fixture
def group():
    """Its name holds the number of this process, so that no other host takes it for left behind."""
    directory = cgroup.make(OWN, os.urandom(8).hex())
    assert directory
    yield directory
    cgroup.kill(directory)


def members(group: str) -> set[int]:
    with open(f"{group}/cgroup.procs") as file:
        return set(map(int, file.read().split()))


def test_programs_are_in_the_group_of_their_worker(group):
    with FakeParent(group=group) as parent:
        parent.start(1, "sleep", "60")
        pid = parent.started(1)
        assert members(group) == {parent.pid, pid}


@pytest.mark.parametrize("how", ["closed", "alone"])
def test_a_worker_that_leaves_removes_its_group(group, how):
    with FakeParent(group=group) as parent:
        parent.start(1, "sleep", "60")
        pid = parent.started(1)
        if how == "closed":
            parent.send(frames.CLOSE)
            parent.cancel(1)
        else:
            parent.close_requests()
        assert parent.wait() == 0
        assert not os.path.exists(group)
        assert parent.last_words() == ""
    assert_all_die(pid)


def test_a_killed_worker_leaves_everything_to_be_killed_by_its_group(group, ready):
    script = 'setsid -f env -i sh -c \'echo $$ >"$1"; exec sleep 60\' sh "$1" >/dev/null 2>&1; exec sleep 60'
    with FakeParent(group=group) as parent:
        parent.start(1, "sh", "-c", script, "sh", ready.path)
        pids = {parent.started(1), int(ready.wait_blocking())}
        os.kill(parent.pid, signal.SIGKILL)
        assert parent.wait() == -signal.SIGKILL
        wait_until(lambda: members(group) == pids)
        assert cgroup.kill(group)
        assert not os.path.exists(group)
    assert_all_die(*pids)


def test_a_group_that_is_not_there_is_no_trouble(tmp_path):
    with FakeParent(group=str(tmp_path / "missing")) as parent:
        parent.start(1, "true")
        assert parent.result(1).returncode == 0
        parent.send(frames.CLOSE)
        assert parent.wait() == 0
        assert parent.last_words() == ""


@pytest.mark.parametrize("may_start_threads", [True, False])
def test_a_process_is_in_its_group_when_the_move_is_over(group, may_start_threads):
    program = """\
import _thread, os, sys
from aiocmdpool.standalone.kernel import cgroup

def refuse(*_):
    raise RuntimeError("can't start new thread")

if sys.argv[2] == "False":
    _thread.start_new_thread = refuse
assert cgroup.start_to_enter(sys.argv[1])()
with open(sys.argv[1] + "/cgroup.procs") as file:
    print(file.read() == f"{os.getpid()}\\n")
"""
    argv = [sys.executable, "-c", program, group, str(may_start_threads)]
    moved = subprocess.run(argv, stdout=subprocess.PIPE)
    assert moved.stdout == b"True\n"
