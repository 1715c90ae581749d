"""Reads what /proc says of a process, by its pid alone: whose pid that is by now, the caller has to know."""

import os

FEW = 64  # pids; for more, a listing of /proc is cheaper


def children_of(pid: int) -> "list[int]":
    """Return the children of all threads of a process: the kernel lists a child under the thread that forked it."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        return [int(child) for task in tasks for child in read(f"/proc/{pid}/task/{task}/children").split()]
    except OSError:
        return []


def name_of(pid: int) -> bytes:
    """Return the name of a process, alive or unreaped; empty if it is not visible."""
    try:
        return stat_of(pid)[0]
    except OSError:
        return b""


def group_of(pid: int) -> int:
    """Return the process group of a process, alive or unreaped; 0 if it is not visible."""
    try:
        return int(stat_of(pid)[1][2])
    except OSError:
        return 0


def state_of(pid: int) -> "tuple[str, float, int] | None":
    """Return the state letter of a process, alive or unreaped, its CPU time in seconds, and its start in ticks.

    `None` if it is not visible: it is reaped, or hidden (`hidepid`).
    """
    try:
        _, fields = stat_of(pid)
    except OSError:
        return None
    return fields[0].decode(), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(fields[19])


def memory_of(pid: int) -> "list[bytes]":
    """Return how much address space, code and data a process has (proc_pid_statm(5)): what no access changes."""
    fields = read_once(f"/proc/{pid}/statm").split()
    return [fields[0], fields[3], fields[5]]


def stat_of(pid: int) -> "tuple[bytes, list[bytes]]":
    """Return the name of a process, and the fields after it: proc_pid_stat(5), from the third field on."""
    # The name itself may contain spaces and brackets.
    before, _, after = read_once(f"/proc/{pid}/stat").rpartition(b")")
    return before.partition(b"(")[2], after.split(None, 20)


def is_thread(pid: int) -> bool:
    """Return whether `pid` is the id of a thread other than the main one: /proc knows these, but does not list them."""
    try:
        return b"\nTgid:\t%d\n" % pid not in read(f"/proc/{pid}/status")
    except OSError:
        return True  # gone by now, with its process


def newest_pid() -> int:
    """Return the pid that was given out last (proc_loadavg(5)); 0 if that is not visible."""
    try:
        return int(read_once("/proc/loadavg").rsplit(None, 1)[1])
    except OSError:
        return 0


def pids_between(before: "int | None", newest: int) -> "list[int]":
    """Return the pids given out after `before` (or all), up to `newest`, in that order; some may not be alive."""
    if before is not None and 0 <= newest - before <= FEW:
        return list(range(before + 1, newest + 1))
    try:
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    except OSError:
        return []
    if before is not None:
        wrapped = newest < before  # past pid_max, pids start again at low numbers
        pids = [pid for pid in pids if (pid > before) + (pid <= newest) + wrapped >= 2]
    return sorted(pids, key=lambda pid: (pid <= newest, pid))


class Children:
    """The children of this process, which must have one thread only; zombies are included.

    Attributes:
        visible: Whether the kernel lists them (CONFIG_PROC_CHILDREN, proc_pid_task_children(5)).
    """

    def __init__(self) -> None:
        me = os.getpid()
        try:
            self._fd = os.open(f"/proc/{me}/task/{me}/children", os.O_RDONLY)
        except OSError:
            self._fd = -1
        self.visible = self._fd >= 0

    def more_than(self, count: int) -> "list[bytes]":
        """Return their pids as text if there are more than `count`; otherwise an empty list."""
        if self._fd < 0:
            return []
        data = chunk = os.pread(self._fd, 65536, 0)
        while len(chunk) > 4000:  # the kernel returns a page at a time
            chunk = os.pread(self._fd, 65536, len(data))
            data += chunk
        return data.split() if data.count(b" ") > count else []


def read_memory(path: str) -> bytes:
    """Return a file that shows memory of a process; empty if it has none any more, as after the end of its main thread.

    The file then belongs to root (task_dump_owner in the kernel's fs/proc/base.c), so others may not read it.
    """
    try:
        return read(path)
    except (ProcessLookupError, PermissionError):
        return b""


def read_once(path: str) -> bytes:
    """Return what a file of one short line holds."""
    fd = os.open(path, os.O_RDONLY)  # the builtin `open` takes three times as long: a look at the file, and an object
    try:
        return os.read(fd, 1024)
    finally:
        os.close(fd)


def read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        data = chunk = os.read(fd, 65536)
        while chunk:  # the kernel gives some of these files a page at a time
            chunk = os.read(fd, 65536)
            data += chunk
        return data
    finally:
        os.close(fd)


def has_open(pid: int, link: str) -> bool:
    try:
        return any(os.readlink(f"/proc/{pid}/fd/{fd}") == link for fd in os.listdir(f"/proc/{pid}/fd"))
    except OSError:  # gone, or not accessible
        return False
