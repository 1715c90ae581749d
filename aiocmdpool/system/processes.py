"""Looks at running processes through /proc; where there is none, it sees nothing and says so by an empty answer."""

import contextlib
import os
from collections.abc import Iterator

from aiocmdpool.result import LeakedProcess

_DEAD = (b"Z", b"X", b"x")  # proc_pid_stat(5)


def group_members(pgid: int) -> tuple[LeakedProcess, ...]:
    """The living processes of a process group."""
    return tuple(
        LeakedProcess(pid, name) for pid, name, state, group in _all_processes() if group == pgid and state not in _DEAD
    )


def pipe_holders(inode: int) -> tuple[LeakedProcess, ...]:
    """The processes, other than this one, that have the pipe with this inode open (those we may look at)."""
    link = f"pipe:[{inode}]"
    holders = []
    for pid, name, _, _ in _all_processes():
        if pid != os.getpid() and link in _open_files(pid):
            holders.append(LeakedProcess(pid, name))
    return tuple(holders)


def _all_processes() -> Iterator[tuple[int, str, bytes, int]]:
    """Pid, name, state and process group of each process."""
    try:
        entries = os.listdir("/proc")
    except OSError:
        return
    for entry in entries:
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", "rb") as file:  # it may be gone by now
                before, _, after = file.read().rpartition(b")")  # the name itself may contain spaces and brackets
                state, _, group = after.split(None, 3)[:3]
                yield int(entry), os.fsdecode(before.partition(b"(")[2]), state, int(group)


def _open_files(pid: int) -> set[str]:
    files = set()
    with contextlib.suppress(OSError):  # gone, or not ours to look at
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                files.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return files
