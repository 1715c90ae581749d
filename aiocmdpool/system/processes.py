"""Looks for processes, and ends those that nobody else will; reads /proc through `worker_program/procs.py`."""

import contextlib
import os
import signal
import time

from aiocmdpool.result import LeakedProcess
from aiocmdpool.worker_program import procs

_PATIENCE = 2.0  # seconds after which a process that has been killed again and again is left to the kernel


def group_members(leader: int) -> tuple[LeakedProcess, ...]:
    """The living processes of the group or the session that `leader` once led."""
    return tuple(LeakedProcess(p.pid, os.fsdecode(p.name)) for p in procs.in_group_or_session(leader))


def pipe_holders(inode: int) -> tuple[LeakedProcess, ...]:
    """The processes, other than this one, that have the pipe with this inode open (as far as we may look)."""
    return tuple(LeakedProcess(pid or -1, os.fsdecode(name)) for pid, name in procs.pipe_holders(inode))


def kill_marked(cookie: str, leaders: list[int]) -> None:
    """Kill everything that a dead worker has started, by the cookie in its environment, until nothing is left.

    Args:
        cookie: The worker's.
        leaders: Programs known to run; killed with their groups even if their environment does not show the cookie.
    """
    mark = os.fsencode(cookie) + b":"
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        marked = [
            process
            for process in procs.all_processes()
            if process.group in leaders or any(c.startswith(mark) for c in procs.cookies_of(process.pid))
        ]
        if not marked:
            return
        for process in marked:
            with contextlib.suppress(OSError):  # gone by itself, or somebody else's
                os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.005)  # what is dying still shows; what it started meanwhile shows next time
