"""Looks at processes through /proc; where there is none, it sees nothing."""

import os

COOKIE = b"AIOCMDPOOL_RUN"  # the environment variable that names the run a process belongs to
_DEAD = (b"Z", b"X", b"x")  # proc_pid_stat(5)


class Process:
    """One living process."""

    __slots__ = ("group", "name", "parent", "pid", "session")

    def __init__(self, pid: int, name: bytes, parent: int, group: int, session: int) -> None:
        self.pid = pid
        self.name = name
        self.parent = parent
        self.group = group
        self.session = session


def look_at(pid: int) -> "Process | None":
    """What /proc says of a process; `None` if it is dead, a zombie or not to be seen."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            before, _, after = file.read(1024).rpartition(b")")  # the name itself may hold spaces and brackets
    except OSError:
        return None
    state, parent, group, session = after.split(None, 4)[:4]
    if state in _DEAD:
        return None
    return Process(pid, before.partition(b"(")[2], int(parent), int(group), int(session))


def all_processes() -> "list[Process]":
    """Every living process there is to see."""
    try:
        entries = os.listdir("/proc")
    except OSError:
        return []
    found = [look_at(int(entry)) for entry in entries if entry.isdigit()]
    return [process for process in found if process is not None]


def in_group_or_session(leader: int) -> "list[Process]":
    """The living processes of the group or the session that `leader` once led."""
    return [process for process in all_processes() if leader in (process.group, process.session)]


class Children:
    """The children of this process, which has one thread; zombies among them.

    Attributes:
        visible: Whether the kernel tells (CONFIG_PROC_CHILDREN, proc_pid_task_children(5)).
    """

    def __init__(self) -> None:
        me = os.getpid()
        try:
            self._fd = os.open(f"/proc/{me}/task/{me}/children", os.O_RDONLY)
        except OSError:
            self._fd = -1
        self.visible = self._fd >= 0

    def more_than(self, count: int) -> "list[bytes]":
        """Their pids as text, if there are more than so many."""
        if self._fd < 0:
            return []
        data = chunk = os.pread(self._fd, 65536, 0)
        while len(chunk) > 4000:  # the kernel gives a page at a time
            chunk = os.pread(self._fd, 65536, len(data))
            data += chunk
        return data.split() if data.count(b" ") > count else []


def cookies_of(pid: int) -> "list[bytes]":
    """The runs a process says it belongs to, the outermost first: a command may itself use workers.

    Empty if it does not say, or is not ours to look at.
    """
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            environment = file.readall()
    except OSError:
        return []
    for variable in environment.split(b"\0"):
        if variable.startswith(COOKIE + b"="):
            return variable[len(COOKIE) + 1 :].split(b",")
    return []


def pipe_holders(inode: int) -> "list[tuple[int, bytes]]":
    """Pid and name of the other processes that have the pipe with this inode open, as far as we may look."""
    link = f"pipe:[{inode}]"
    me = os.getpid()
    found = [
        (process.pid, process.name) for process in all_processes() if process.pid != me and _has_open(process.pid, link)
    ]
    return found or [(0, b"unknown")]


def _has_open(pid: int, link: str) -> bool:
    try:
        return any(os.readlink(f"/proc/{pid}/fd/{fd}") == link for fd in os.listdir(f"/proc/{pid}/fd"))
    except OSError:  # gone, or not ours to look at
        return False
