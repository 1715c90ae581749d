"""Looking at processes through /proc."""

import os
import signal
import subprocess

import pytest

from aiocmdpool.standalone.kernel import processes as procs
from aiocmdpool.standalone.kernel import procfs

from .support import program

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc here")

SLEEP = "import time\nready()\ntime.sleep(60)\n"
RENAME = "import ctypes, time\nctypes.CDLL(None).prctl(15, os.fsencode(os.sys.argv[1]))\n"
RENAME = RENAME.replace("os.sys", "__import__('sys')") + "ready()\ntime.sleep(60)\n"


def all_processes() -> list[procs.Process]:
    seen = map(procs.look_at, procfs.pids_between(None, procfs.newest_pid()))
    return [process for process in seen if process is not None]


@pytest.mark.parametrize("name", ["a b c", "a) R 1 (b", "))) ((", "(", ")", "tab\tand\nnewline", "é"])
def test_odd_names_do_not_disturb_the_fields_after_them(name):
    with program(RENAME, name, start_new_session=True) as pid:
        seen = procs.look_at(pid)
        assert seen is not None
        assert (seen.pid, seen.name) == (pid, os.fsencode(name)[:15])
        assert (seen.parent, seen.group, seen.session) == (os.getpid(), pid, pid)


def test_a_zombie_is_not_to_be_seen():
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert procs.look_at(process.pid) is None
        assert process.pid not in [seen.pid for seen in all_processes()]
        assert procs.marks_of(process.pid) == []
    finally:
        process.wait()


def test_a_process_that_is_no_more_is_not_to_be_seen():
    process = subprocess.Popen(["true"])
    process.wait()
    assert procs.look_at(process.pid) is None
    assert procs.marks_of(process.pid) == []


MAIN_THREAD_ENDS = """
import _thread, ctypes, time

def state():
    with open(f"/proc/{os.getpid()}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]

def live_on():
    while state() != "Z":
        time.sleep(0.001)
    ready()
    time.sleep(60)
    os._exit(0)

_thread.start_new_thread(live_on, ())
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_whose_main_thread_has_ended_is_seen_and_killed():
    """It looks like a zombie, and its number shows neither environment nor arguments."""
    with program(MAIN_THREAD_ENDS, start_new_session=True, env={"AIOCMDPOOL_RUN": "abc:7"}) as pid:
        seen = procs.look_at(pid)
        assert seen is not None
        assert (seen.pid, seen.parent, seen.group, seen.session) == (pid, os.getpid(), pid, pid)
        assert seen.lives()
        assert procs.marks_of(pid) == [b"abc:7"]
        assert pid in [process.pid for process in all_processes()]
        assert procs.in_group_or_session(pid) == []  # of others
        seen.kill()
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert not seen.lives()
        assert procs.look_at(pid) is None


def test_everything_alive_is_to_be_seen():
    with program(SLEEP) as one, program(SLEEP) as other:
        seen = {process.pid: process for process in all_processes()}
        assert {os.getpid(), one, other} <= seen.keys()
        assert seen[one].parent == os.getpid()


def test_members_are_found_by_group_and_by_session():
    own_group = "os.setpgid(0, 0)\n" + SLEEP
    with program(SLEEP, start_new_session=True) as leader, program(SLEEP, process_group=0):
        assert procs.in_group_or_session(leader) == []  # it itself is not asked for
    family = f"if os.fork() == 0:\n    {own_group.replace(chr(10), chr(10) + '    ')}\nos.wait()\n"
    with program(family, start_new_session=True) as leader:
        [member] = procs.in_group_or_session(leader)
        assert member.session == leader
        assert member.group == member.pid
        os.kill(member.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("environment", "cookies"),
    [
        ({}, []),
        ({"AIOCMDPOOL_RUN": "abc:7"}, [b"abc:7"]),
        ({"AIOCMDPOOL_RUN": "outer:3,inner:12"}, [b"outer:3", b"inner:12"]),
        ({"A": "1", "AIOCMDPOOL_RUN": "abc:7", "Z": "2"}, [b"abc:7"]),
        ({"AIOCMDPOOL_RUN_NOT": "abc:7", "X": "AIOCMDPOOL_RUN=abc:8"}, []),
        ({"BIG": "x" * 100_000, "AIOCMDPOOL_RUN": "abc:7"}, [b"abc:7"]),
    ],
)
def test_the_cookie_is_found_in_any_environment(environment, cookies):
    with program(SLEEP, env=environment) as pid:
        assert procs.marks_of(pid) == cookies


def test_the_holders_of_a_pipe_are_found():
    read_end, write_end = os.pipe()
    inode = os.fstat(read_end).st_ino
    assert procs.pipe_holders(inode) == [(0, b"unknown")]  # this process does not count
    with program(SLEEP, stdout=write_end) as pid:
        [(holder, name)] = procs.pipe_holders(inode)
        assert holder == pid
        assert name.startswith(b"python")
    os.close(read_end)
    os.close(write_end)


def test_children_are_counted_and_named_however_many_they_are():
    """The kernel gives a page of them at a time."""
    children = procfs.Children()
    assert children.visible
    before = {int(pid) for pid in children.more_than(0)}
    argv = ["/bin/sleep", "60"]
    mine = {os.posix_spawn(argv[0], argv, {}) for _ in range(900)}
    try:
        assert {int(pid) for pid in children.more_than(0)} - before == mine
        assert len(children.more_than(len(before) + 899)) == len(before) + 900
        assert children.more_than(len(before) + 900) == []
    finally:
        for pid in mine:
            os.kill(pid, signal.SIGKILL)
        for pid in mine:
            os.waitpid(pid, 0)
        os.close(children._fd)


def test_a_zombie_is_a_child_until_it_is_reaped():
    children = procfs.Children()
    before = len(children.more_than(0))
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert str(process.pid).encode() in children.more_than(before)
    process.wait()
    assert len(children.more_than(0)) == before
    os.close(children._fd)


def test_a_kernel_that_does_not_tell_of_children_is_no_error(monkeypatch):
    def refuse(*_: object) -> int:
        raise FileNotFoundError

    monkeypatch.setattr(os, "open", refuse)
    children = procfs.Children()
    monkeypatch.undo()
    assert not children.visible
    assert children.more_than(0) == []


def test_without_proc_nothing_is_seen(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(os, "listdir", refuse)
    monkeypatch.setattr(os, "open", refuse)
    assert all_processes() == []
    assert procs.in_group_or_session(os.getpid()) == []
    assert procs.look_at(os.getpid()) is None
    assert procs.marks_of(os.getpid()) == []


@pytest.mark.parametrize(
    ("seen", "marks"),
    [
        (["", "", "", "args", "mark"], [b"abc:7"]),  # the exec came to its end between two looks
        (["", "args", "mark"], [b"abc:7"]),  # … between the two halves of one
        (["", "args", ""], []),  # it has none
        (["", "", "", "", "", ""], None),
        (["", "", "", "", "", "args"], None),
    ],
    ids=["between looks", "within a look", "no environment", "goes on", "just there"],
)
def test_an_exec_that_comes_to_its_end_while_one_looks(monkeypatch, seen, marks):
    texts = {"": b"", "args": b"sleep\x0060\0", "mark": b"A=b\0" + procs.COOKIE + b"=abc:7\0"}
    answers = iter(seen)
    with program(SLEEP) as pid:  # which has one thread
        monkeypatch.setattr(procs, "read_memory", lambda path: texts[next(answers)])
        assert procs.marks_of(pid) == marks
    assert list(answers) == []
