"""A control group for a worker and all that it starts, if the kernel allows it (cgroups(7), version 2).

A process may change its environment, group and session, but stays in its control group, and `cgroup.kill` (Linux 5.14)
ends the whole of it at once. One group for each worker takes milliseconds at its start; one for each command would
cost every command as much.
"""

import _thread
import os
import time

from . import processes as procs

TYPE_CHECKING = False  # `typing` takes 7 ms to import
if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX = "aiocmdpool-"
STACK = 256 * 1024  # bytes for a thread that opens a file and writes to it
EMPTY_AFTER = 1.0  # seconds for killed processes to disappear


def own_directory() -> str:
    """Return the directory of this process's control group; empty if there is none in which it may make groups."""
    try:
        with open("/proc/self/cgroup") as file:
            path = next((line[3:].strip() for line in file if line.startswith("0::")), "")
        with open("/proc/self/mountinfo") as file:
            mounts = [fields for fields in map(str.split, file) if "cgroup2" in fields[fields.index("-") :]]
        root, mount_point = mounts[0][3:5]
        directory = mount_point + path.removeprefix(root.rstrip("/")).rstrip("/")
        with open(f"{directory}/cgroup.procs", "rb") as file:
            is_here = b"%d" % os.getpid() in file.read().split()
    except (OSError, IndexError):
        return ""
    writable = os.access(directory, os.W_OK) and os.access(f"{directory}/cgroup.procs", os.W_OK)
    return directory if is_here and writable else ""


def make(parent: str, name: str) -> str:
    """Make a control group below `parent`, and return its directory; empty if that does not work.

    Empty groups that dead processes have left there are removed.
    """
    directory = os.path.join(parent, f"{PREFIX}{os.getpid()}-{name}")
    try:
        for entry in os.listdir(parent):
            pid = entry.removeprefix(PREFIX).partition("-")[0] if entry.startswith(PREFIX) else ""
            if pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
                remove(os.path.join(parent, entry))
        os.mkdir(directory)
    except OSError:
        return ""
    if not os.path.exists(f"{directory}/cgroup.kill"):
        remove(directory)
        return ""
    return directory


def enter(directory: str) -> bool:
    """Move this process into the group at `directory`; return whether that worked."""
    try:
        with open(f"{directory}/cgroup.procs", "w") as file:
            file.write("0")
    except OSError:
        return False
    return True


def start_to_enter(directory: str) -> "Callable[[], bool]":
    """Start to move this process into a group, if any; return a function that waits, and returns whether that worked.

    A move takes 5 to 12 ms (Linux 6.18) without using a CPU: the kernel waits until no process of the system is in the
    middle of a fork (cgroup_attach_lock in its kernel/cgroup/cgroup.c), and forks wait for the move. A thread asks for
    it, and not another process, which somebody could stop, and which could outlive this one.
    """
    if not directory:
        return lambda: False
    is_over, worked = _thread.allocate_lock(), [False]

    def move() -> None:
        try:
            worked[0] = enter(directory)
        finally:
            is_over.release()

    def wait() -> bool:
        with is_over:
            return worked[0]

    is_over.acquire()
    before = _thread.stack_size(STACK)
    try:
        _thread.start_new_thread(move, ())
    except RuntimeError:  # the limit on processes, which counts threads
        move()
    finally:
        _thread.stack_size(before)
    return wait


def kill(directory: str) -> bool:
    """Kill everything in a group and remove it; return whether nothing is left. Blocks, mostly for milliseconds."""
    seen = {process.pid: process for process in _members(directory)}
    try:
        with open(f"{directory}/cgroup.kill", "w") as file:
            file.write("1")
    except FileNotFoundError:
        return True
    except OSError:
        return False
    deadline = time.monotonic() + EMPTY_AFTER
    while not remove(directory):
        for process in _members(directory):  # the kernel signals main threads, which may end before the others
            process.kill()
            seen[process.pid] = process
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    for process in seen.values():
        process.reap()
    return True


def _members(directory: str) -> "list[procs.Process]":
    """Return the living processes of the group at `directory`."""
    try:
        with open(f"{directory}/cgroup.procs") as file:
            found = [procs.look_at(int(line)) for line in file]
    except OSError:
        return []
    return [process for process in found if process is not None]


def remove(directory: str) -> bool:
    """Remove the group at `directory` if it is empty; return whether it is gone."""
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:  # EBUSY: it still has processes
        return False
    return True
