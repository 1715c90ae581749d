"""Rounding up processes: nothing that multiplies gets away, and nothing else is touched."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from contract.support import argv_of, is_dead

from aiocmdpool.standalone.kernel import processes as procs
from aiocmdpool.standalone.kernel.roundup import Roundup

from .support import wait_until

PATIENCE = 20.0  # seconds; it takes less than a tenth of one on a quiet machine

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user, whose processes are limited in number")

BECOME_NOBODY = """
import os
nobody = 100_000 + os.getpid()
os.setgroups([])
os.setresgid(nobody, nobody, nobody)
os.setresuid(nobody, nobody, nobody)
"""  # who has nothing else on this machine: zombies of others count as well
BOMB = f"""
import os, resource, signal, sys, time
{BECOME_NOBODY}
resource.setrlimit(resource.RLIMIT_NPROC, (int(sys.argv[1]),) * 2)
signal.alarm(30)
while True:
    try:
        if os.fork() == 0:
            signal.alarm(30)
            if sys.argv[2] == "session":
                os.setsid()
            os.write(1, b"ready")
    except OSError:
        time.sleep(0)
"""


def finish(roundup: Roundup) -> None:
    deadline = time.monotonic() + PATIENCE
    while roundup.step():
        assert time.monotonic() < deadline, roundup.left
        time.sleep(0.001)


@contextlib.contextmanager
def started(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that leads its session, and has said a word."""
    with subprocess.Popen(argv, start_new_session=True, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.read(1)
            yield child
        finally:
            child.kill()


@pytest.mark.parametrize("way", ["group", "session"])
@pytest.mark.skipif(
    os.geteuid() != 0, reason="the number of processes of root has no limit, and becomes that of nobody"
)
def test_a_fork_bomb_ends(way):
    """One in whose every process leads a session of its own is found by parent alone."""
    with started(sys.executable, "-c", BOMB, "150", way) as bomb:
        roundup = Roundup(lambda process: bomb.pid == process.pid)
        finish(roundup)
        bomb.wait(PATIENCE)
        assert roundup.found > 1
        assert not [pid for pid, process in roundup._members.items() if not is_dead(pid) and process.lives()]
        assert not roundup.left


def test_the_whole_tree_of_a_process_goes_with_it_and_nothing_else():
    with (
        started("sh", "-c", "setsid sh -c 'sleep 60 & echo x; wait' & wait") as tree,
        started("sh", "-c", "echo x; exec sleep 60") as stranger,
    ):
        roundup = Roundup(lambda process: process.pid == tree.pid)
        finish(roundup)
        assert roundup.found == 3
        assert tree.wait(PATIENCE) == -signal.SIGKILL
        assert procs.look_at(stranger.pid).state != b"T"


def test_what_is_to_be_spared_keeps_its_own_children():
    with started("sh", "-c", "sh -c 'sleep 60 & echo x; wait' & wait") as tree:
        [child] = [each for each in procs.snapshot().values() if each.parent == tree.pid]
        [grandchild] = [each for each in procs.snapshot().values() if each.parent == child.pid]
        finish(Roundup(lambda process: process.session == tree.pid, lambda process: process.pid == child.pid))
        try:
            assert tree.wait(PATIENCE) == -signal.SIGKILL
            assert child.lives()
            assert grandchild.lives()
        finally:
            grandchild.kill()
            child.kill()


def test_one_that_cannot_be_told_yet_is_asked_about_again():
    answers = [None, None, True]
    with started("sh", "-c", "echo x; exec sleep 60") as child:
        finish(Roundup(lambda process: process.pid == child.pid and (answers.pop(0) if answers else True)))
        assert child.wait(PATIENCE) == -signal.SIGKILL


@as_root
def test_what_belongs_to_somebody_else_is_named_and_not_waited_for():
    with started("sh", "-c", "echo x; exec sleep 60") as root:
        script = f"""
from aiocmdpool.standalone.kernel.roundup import Roundup
{BECOME_NOBODY}
roundup = Roundup(lambda process: process.pid == {root.pid})
while roundup.step():
    pass
print([process.pid for process in roundup.left], roundup.untouchable)
"""
        seen = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=PATIENCE)
        assert seen.stdout.decode() == f"[{root.pid}] {{{root.pid}}}\n"


def test_stopped_and_traced_processes_die_as_well():
    with started(*argv_of("ignore_sigterm", "/dev/stdout")) as child:
        os.kill(child.pid, signal.SIGSTOP)
        wait_until(lambda: procs.look_at(child.pid).state == b"T")
        finish(Roundup(lambda process: process.pid == child.pid))
        assert child.wait(PATIENCE) == -signal.SIGKILL


def test_a_snapshot_shows_the_living_with_their_parents():
    with started("sh", "-c", "echo x; exec sleep 60") as child:
        seen = procs.snapshot()
        assert seen[child.pid].parent == os.getpid()
        assert seen[child.pid].session == child.pid
        child.kill()
        child.wait(PATIENCE)
        assert child.pid not in procs.snapshot()
