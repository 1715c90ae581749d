"""Finds processes, and kills leftovers; reads /proc through `standalone/kernel/processes.py`."""

import os
import time
from collections.abc import Callable

from aiocmdpool.commands.result import LeakedProcess
from aiocmdpool.standalone.kernel import processes as procs
from aiocmdpool.standalone.kernel import procfs
from aiocmdpool.standalone.kernel.roundup import Roundup

_KILL_TIMEOUT = 2.0  # seconds after which a process that survives repeated kills is left to the kernel
_ROUNDUP_PAUSE = 0.002  # seconds between checks on dying processes
_FRUITLESS_LOOKS = 50  # rounds without result, where others keep starting processes
_QUICK_LOOK = 0.0002  # seconds; shorter than the life of a process that forks and exits
_QUICK_LOOKS = 3  # looks in a row, each quicker than that, that end the search
_EXEC_TIMEOUT = 0.1  # seconds for processes in the middle of an `exec`


def pipe_holders(inode: int) -> tuple[LeakedProcess, ...]:
    """Return the other processes that have the pipe with this inode open, as far as this process may see them."""
    return tuple(LeakedProcess(pid or -1, os.fsdecode(name)) for pid, name in procs.pipe_holders(inode))


def round_up(
    belongs: Callable[[procs.Process], bool | None], spares: Callable[[procs.Process], bool] = lambda _: False
) -> bool:
    """Kill processes with all their descendants, until none is left; return whether there was one. Blocks.

    Args:
        belongs, spares: See `Roundup`.
    """
    deadline = time.monotonic() + _KILL_TIMEOUT
    roundup = Roundup(belongs, spares)
    while roundup.step() and time.monotonic() < deadline:
        time.sleep(_ROUNDUP_PAUSE)
    for process in roundup.members:
        process.reap()
    return roundup.found > 0


def is_marked(pid: int, is_wanted: Callable[[bytes], bool]) -> bool | None:
    """Return whether the process `pid` has a mark that is wanted; `None` if that cannot be told now."""
    marks = procs.marks_of(pid)
    return None if marks is None else any(map(is_wanted, marks))


def look_for(is_wanted: Callable[[procs.Process], bool | None], since: int) -> list[procs.Process]:
    """Return the wanted processes, including those that are started during the search.

    Pids are given out in ascending order, and are checked in that order: a process that is gone when it is checked has
    started its children before, under pids that are still to be checked. So if no pid was given out during a round in
    which nothing was found, nothing is there, however often it forks. Where others start processes all the time, a few
    rounds that are quicker than the life of a process have to do.

    Args:
        is_wanted: Function that tells whether a process is wanted; `None` to check it again.
        since: Only processes with later pids than this are checked.
    """
    found: list[procs.Process] = []
    before, newest = since, procfs.newest_pid()
    fruitless = quick = 0
    unclear: list[int] = []
    give_up_at = time.monotonic() + _EXEC_TIMEOUT
    while not found and ((before != newest and fruitless < _FRUITLESS_LOOKS and quick < _QUICK_LOOKS) or unclear):
        started_at = time.monotonic()
        again, unclear = unclear, []
        for pid in again + procfs.pids_between(before, newest):
            process = procs.look_at(pid)
            wanted = process is not None and is_wanted(process)
            if wanted is None:
                unclear.append(pid)
            elif process is not None and wanted and not procfs.is_thread(pid):
                found.append(process)
        fruitless += 1
        quick = quick + 1 if time.monotonic() - started_at < _QUICK_LOOK else 0
        if time.monotonic() > give_up_at:
            unclear = []
        before, newest = newest, procfs.newest_pid()
    return found
