"""Looks for processes, and ends those that nobody else will; reads /proc through `worker_program/procs.py`."""

import contextlib
import os
import time
from collections.abc import Callable, Container

from aiocmdpool.result import LeakedProcess
from aiocmdpool.worker_program import procs

_PATIENCE = 2.0  # seconds after which a process that has been killed again and again is left to the kernel
_FRUITLESS_LOOKS = 3  # at what others start all the time


def group_members(leader: int) -> tuple[LeakedProcess, ...]:
    """The living processes of the group or the session that `leader` once led."""
    return tuple(LeakedProcess(p.pid, os.fsdecode(p.name)) for p in procs.in_group_or_session(leader))


def pipe_holders(inode: int) -> tuple[LeakedProcess, ...]:
    """The processes, other than this one, that have the pipe with this inode open (as far as we may look)."""
    return tuple(LeakedProcess(pid or -1, os.fsdecode(name)) for pid, name in procs.pipe_holders(inode))


def kill_marked(is_wanted: Callable[[bytes], bool], leaders: Container[int]) -> bool:
    """Kill processes by the mark in their environment, until none is left; whether there was one. Blocks.

    Args:
        is_wanted: Whether a mark is one of those.
        leaders: Groups that go with them even if the environment of a member does not show a mark.
    """
    me = os.getpid()
    deadline = time.monotonic() + _PATIENCE
    children: set[int] = set()
    dying: list[procs.Process] = []
    found = False
    while True:
        killed = hunt(lambda process: process.group in leaders or any(map(is_wanted, procs.marks_of(process.pid))))
        found = found or bool(killed)
        dying += killed
        children.update(process.pid for process in killed if process.parent == me)
        for pid in list(children):  # orphans come to this process if it is the first of a container, or a subreaper
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    continue
            children.discard(pid)
        dying = [process for process in dying if process.lives()]
        if (not killed and not children and not dying) or time.monotonic() > deadline:
            return found
        time.sleep(0.005)


def hunt(is_wanted: Callable[[procs.Process], bool], since: int | None = None) -> list[procs.Process]:
    """Kill processes, the youngest first, each as soon as it is found, and what they start meanwhile.

    Pids are given in turn. So after a look at all of them only those given meanwhile are left to look at, which takes
    less time than the next process takes to start: whoever forks again and again does not get away.

    Args:
        is_wanted: Whether to kill one.
        since: Look at processes younger than this pid only. None at all if nothing has been started since.
    """
    killed: list[procs.Process] = []
    before, newest = since, procs.newest_pid()
    fruitless = 0
    while before != newest and fruitless < _FRUITLESS_LOOKS:
        count = len(killed)
        for pid in procs.pids_between(before, newest):
            process = procs.look_at(pid)
            if process is not None and is_wanted(process) and not procs.is_thread(pid):
                process.kill()
                killed.append(process)
        fruitless = 0 if len(killed) > count else fruitless + 1
        before, newest = newest, procs.newest_pid()
    return killed
