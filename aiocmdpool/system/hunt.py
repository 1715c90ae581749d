"""Looks for processes, and ends those that nobody else will; reads /proc through `standalone/kernel/processes.py`."""

import os
import time
from collections.abc import Callable

from aiocmdpool.commands.result import LeakedProcess
from aiocmdpool.standalone.kernel import processes as procs
from aiocmdpool.standalone.kernel.roundup import Roundup

_PATIENCE = 2.0  # seconds after which a process that has been killed again and again is left to the kernel
_ROUNDUP_PAUSE = 0.002  # seconds between looks at what dies
_FRUITLESS_LOOKS = 50  # in a row, at what others start all the time
_QUICK_LOOK = 0.0002  # seconds; less than a process lives that forks and exits
_QUICK_LOOKS = 3  # in a row
_EXEC_PATIENCE = 0.1  # seconds for those in the middle of an `exec`


def pipe_holders(inode: int) -> tuple[LeakedProcess, ...]:
    """The processes, other than this one, that have the pipe with this inode open (as far as we may look)."""
    return tuple(LeakedProcess(pid or -1, os.fsdecode(name)) for pid, name in procs.pipe_holders(inode))


def round_up(
    belongs: Callable[[procs.Process], bool | None], spares: Callable[[procs.Process], bool] = lambda _: False
) -> bool:
    """Kill processes with all their descendants, until none is left; whether there was one. Blocks.

    Args:
        belongs, spares: See `Roundup`.
    """
    deadline = time.monotonic() + _PATIENCE
    roundup = Roundup(belongs, spares)
    while roundup.step() and time.monotonic() < deadline:
        time.sleep(_ROUNDUP_PAUSE)
    for process in roundup.members:
        process.reap()
    return roundup.found > 0


def is_marked(pid: int, is_wanted: Callable[[bytes], bool]) -> bool | None:
    """Whether a process has a mark that is wanted; `None` if it cannot tell now."""
    marks = procs.marks_of(pid)
    return None if marks is None else any(map(is_wanted, marks))


def look_for(is_wanted: Callable[[procs.Process], bool | None], since: int) -> list[procs.Process]:
    """Find processes, and those that are started meanwhile.

    Pids are given in turn, and looked at in that order: a process that is gone when it is looked at has started what it
    started before, under a number that is still to come. So when no number has been given during a look in which
    nothing was found, nothing is there, however often it forks. Where others start processes all the time, a few looks
    have to do that are quicker than a process can be.

    Args:
        is_wanted: Whether it is one; `None` if it is to be looked at again.
        since: Look at processes younger than this pid only. None at all if nothing has been started since.
    """
    found: list[procs.Process] = []
    before, newest = since, procs.newest_pid()
    fruitless = quick = 0
    unclear: list[int] = []
    give_up_at = time.monotonic() + _EXEC_PATIENCE
    while not found and ((before != newest and fruitless < _FRUITLESS_LOOKS and quick < _QUICK_LOOKS) or unclear):
        started_at = time.monotonic()
        again, unclear = unclear, []
        for pid in again + procs.pids_between(before, newest):
            process = procs.look_at(pid)
            wanted = process is not None and is_wanted(process)
            if wanted is None:
                unclear.append(pid)
            elif process is not None and wanted and not procs.is_thread(pid):
                found.append(process)
        fruitless += 1
        quick = quick + 1 if time.monotonic() - started_at < _QUICK_LOOK else 0
        if time.monotonic() > give_up_at:
            unclear = []
        before, newest = newest, procs.newest_pid()
    return found
