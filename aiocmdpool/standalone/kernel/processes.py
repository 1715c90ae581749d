"""Looks at processes through /proc, and ends them; where there is no /proc, it sees nothing."""

import errno
import os
import signal
import time

COOKIE = b"AIOCMDPOOL_RUN"  # the environment variable that names the run a process belongs to
EXEC_LOOKS = 3  # at a process that does not even show its arguments, 0.3 ms apart
MARK_DIGITS = 10  # what a request number has at most (32 bits); int() refuses more than 4,300 with an error
FEW = 64  # pids; for more of them a listing of /proc costs less
UNSEEN = -1  # the start of a child that could not be looked at; it is not reaped, so its pid is its own
TICKS = os.sysconf("SC_CLK_TCK")  # a second
_EXITING = 0x4  # PF_EXITING in the kernel's include/linux/sched.h
_DEAD = (b"Z", b"X", b"x")  # proc_pid_stat(5)


class Process:
    """One living process."""

    __slots__ = ("group", "name", "parent", "pid", "session", "started", "state")

    def __init__(
        self, pid: int, name: bytes, parent: int, group: int, session: int, started: int, state: bytes = b"R"
    ) -> None:
        self.pid = pid
        self.name = name
        self.parent = parent
        self.group = group
        self.session = session
        self.started = started
        """Clock ticks since the system started; with the pid, this names one process for ever."""
        self.state = state
        """A letter of proc_pid_stat(5): R, S, D, T, …"""

    def lives(self) -> bool:
        """Whether it is still there."""
        now = look_at(self.pid) if self.started != UNSEEN else look_at_child(self.pid)
        return now is not None and now.started == self.started

    def is_dying(self) -> bool:
        """Whether it is still on its way: alive, or giving back what it had. Then comes the zombie, or nothing."""
        try:
            _, fields = _stat_of(self.pid)
        except OSError:
            return False
        return (fields[0] not in _DEAD or int(fields[17]) > 1) and int(fields[19]) == self.started

    def reap(self) -> None:
        """Reap it, if it has died and its orphan has come to this process: the first of a container, or a subreaper.

        Only then. Other children of this process are somebody else's to wait for.
        """
        try:
            _, fields = _stat_of(self.pid)
            if fields[0] == b"Z" and int(fields[1]) == os.getpid() and int(fields[19]) == self.started:
                os.waitpid(self.pid, os.WNOHANG)
        except OSError:
            return  # gone, or it was a child of the program, which has reaped it

    def kill(self) -> None:
        """Kill it: see `signal`."""
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> bool:
        """Signal it; whether that is allowed.

        Never another one that has been given its pid meanwhile: a pidfd stays with its process.
        """
        try:
            pidfd = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else -1
        except OSError:  # gone; or no descriptors left, or an old kernel
            pidfd = -1
        try:
            if not self.lives():
                return True
            if pidfd >= 0:
                signal.pidfd_send_signal(pidfd, number)
            else:
                os.kill(self.pid, number)
        except PermissionError:  # somebody else's (setuid)
            return False
        except OSError:  # gone by itself
            return True
        finally:
            if pidfd >= 0:
                os.close(pidfd)
        return True


def look_at(pid: int) -> "Process | None":
    """What /proc says of a process; `None` if it is dead, a zombie or not to be seen."""
    try:
        name, fields = _stat_of(pid)
    except OSError:
        return None
    if (fields[0] in _DEAD or int(fields[6]) & _EXITING) and int(fields[17]) <= 1:
        return None  # with more threads, it is only its main thread that has ended
    return Process(pid, name, int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]), fields[0])


def is_alive(pid: int, started: int) -> bool:
    """Whether the process with a pid and a start lives."""
    now = look_at(pid)
    return now is not None and now.started == started


def started_since(process: Process, moment: float) -> bool:
    """Whether a process was started after a moment of the monotonic clock, as far as ticks tell."""
    if process.started == UNSEEN:
        return True
    suspended = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()  # seconds the machine has been asleep
    return process.started / TICKS >= moment + suspended - 2 / TICKS


def started_before(process: Process, moment: float) -> bool:
    """Whether a process may have been started before a moment of the monotonic clock, as far as ticks tell."""
    if process.started == UNSEEN:
        return True
    suspended = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    return process.started / TICKS <= moment + suspended


def kill_child(pid: int) -> bool:
    """Kill a child of this process, which is not reaped yet, so the number is its own; whether that is allowed."""
    try:
        os.kill(pid, signal.SIGKILL)
    except PermissionError:  # somebody else's (setuid)
        return False
    except OSError:
        return True
    return True


def descendants(pid: int, limit: int) -> "list[Process]":
    """Return the living descendants of a process, at most so many; none where the kernel does not list children."""
    found: list[Process] = []
    parents = [pid]
    while parents and len(found) < limit:
        for child in _children_of(parents.pop()):
            process = look_at(child)
            if process is not None:
                found.append(process)
                parents.append(child)
    return found


def dead_children() -> "list[Process]":
    """Return the children of this process that are dead and not reaped."""
    found = []
    for pid in _children_of(os.getpid()):
        try:
            name, fields = _stat_of(pid)
        except OSError:
            continue
        if fields[0] == b"Z" and int(fields[17]) <= 1:
            parent, group, session, started = (int(fields[place]) for place in (1, 2, 3, 19))
            found.append(Process(pid, name, parent, group, session, started, fields[0]))
    return found


def _children_of(pid: int) -> "list[int]":
    """Return the children of all threads of a process: a child is listed under the thread that forked it."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        return [int(child) for task in tasks for child in _read(f"/proc/{pid}/task/{task}/children").split()]
    except OSError:
        return []


def look_at_child(pid: int) -> "Process | None":
    """Return what there is to say of a child of this process, also without a descriptor to read /proc with."""
    try:
        _stat_of(pid)
    except OSError as failure:
        if failure.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            return None
        try:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return None
            return Process(pid, b"unknown", os.getpid(), os.getpgid(pid), os.getsid(pid), UNSEEN)
        except OSError:
            return None
    return look_at(pid)


def name_of(pid: int) -> bytes:
    """Return the name of a process, dead or alive, until it is reaped; empty if it is not to be seen."""
    try:
        return _stat_of(pid)[0]
    except OSError:
        return b""


def group_of(pid: int) -> int:
    """The process group of a process, dying or dead, until it is reaped; 0 if it is not to be seen."""
    try:
        return int(_stat_of(pid)[1][2])
    except OSError:
        return 0


def state_of(pid: int) -> "tuple[str, float, int] | None":
    """The state of a process, dead or alive, the seconds of CPU time it has had, and when it started (in ticks).

    `None` if it is not to be seen: it is reaped, or /proc does not show it (`hidepid`).
    """
    try:
        _, fields = _stat_of(pid)
    except OSError:
        return None
    return fields[0].decode(), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(fields[19])


def vfork_child_of(pid: int) -> "Process | None":
    """Return the child that a process has started with vfork(2) and that has not come to its `exec`.

    Until then the two share their memory, and the parent stands still, in state D (wait_for_vfork_done in the kernel's
    kernel/fork.c). `None` if there is none, or it is not to be seen.
    """
    try:
        memory = _memory_of(pid)
        for child in _children_of(pid):
            if _memory_of(child) == memory:
                return look_at(child)
    except OSError:  # one of them is gone
        return None
    return None


def _memory_of(pid: int) -> "list[bytes]":
    """Return how much address space, code and data a process has (proc_pid_statm(5)): what no access changes."""
    fields = _read_once(f"/proc/{pid}/statm").split()
    return [fields[0], fields[3], fields[5]]


def tracer_of(pid: int) -> int:
    """The pid of the process that traces this one, dead or alive; 0 if there is none, or it is not to be seen."""
    try:
        _, _, rest = _read(f"/proc/{pid}/status").partition(b"\nTracerPid:")
        return int(rest.split(None, 1)[0])
    except (OSError, IndexError):
        return 0


def _stat_of(pid: int) -> "tuple[bytes, list[bytes]]":
    """The name, and what follows it: proc_pid_stat(5), from the third field on."""
    before, _, after = _read_once(f"/proc/{pid}/stat").rpartition(b")")  # the name itself may hold spaces and brackets
    return before.partition(b"(")[2], after.split(None, 20)


def is_thread(pid: int) -> bool:
    """Whether a number is that of a thread, not the first of its process: /proc knows it, but does not list it."""
    try:
        return b"\nTgid:\t%d\n" % pid not in _read(f"/proc/{pid}/status")
    except OSError:
        return True  # gone by now, with its process


def newest_pid() -> int:
    """The pid given last (proc_loadavg(5)); 0 where that is not to be seen."""
    try:
        return int(_read_once("/proc/loadavg").rsplit(None, 1)[1])
    except OSError:
        return 0


def pids_between(before: "int | None", newest: int) -> "list[int]":
    """The pids given after `before` (or all there are), up to `newest`, in that order. Not all of them live."""
    if before is not None and 0 <= newest - before <= FEW:
        return list(range(before + 1, newest + 1))
    try:
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    except OSError:
        return []
    if before is not None:
        wrapped = newest < before  # at pid_max they start anew
        pids = [pid for pid in pids if (pid > before) + (pid <= newest) + wrapped >= 2]
    return sorted(pids, key=lambda pid: (pid <= newest, pid))


def snapshot() -> "dict[int, Process]":
    """All living processes by pid, in the order in which their pids were given."""
    found = {pid: look_at(pid) for pid in pids_between(None, newest_pid())}
    return {pid: process for pid, process in found.items() if process is not None}


def in_group_or_session(leader: int) -> "list[Process]":
    """The other living processes of the group or the session of `leader`: its descendants, so they are younger."""
    found = [look_at(pid) for pid in pids_between(leader, newest_pid())]
    return [
        each for each in found if each is not None and leader in (each.group, each.session) and not is_thread(each.pid)
    ]


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


def run_mark(cookie: bytes, number: int) -> bytes:
    """What the environment of everything that a run starts holds."""
    return b"%s:%d" % (cookie, number)


def number_in(marks: "list[bytes]", cookie: bytes) -> int:
    """Return the number of the run of a worker that marks name, or -1. Whoever wrote them may be hostile."""
    for mark in marks:
        given, _, number = mark.rpartition(b":")
        if given == cookie and number.isdigit() and len(number) <= MARK_DIGITS:
            return int(number)
    return -1


def marks_of(pid: int) -> "list[bytes] | None":
    """The runs a process says it belongs to, the outermost first: a command may itself use workers.

    Empty if it does not say, or is not ours to look at. `None` if it cannot say: it is in the middle of an `exec`, and
    is to be asked again.
    """
    try:
        environment = _environment_of(pid)
    except OSError:
        return []
    if environment is None:
        return None
    for variable in environment.split(b"\0"):
        if variable.startswith(COOKIE + b"="):
            return variable[len(COOKIE) + 1 :].split(b",")
    return []


def _environment_of(pid: int) -> "bytes | None":
    """What /proc shows of an environment; empty for the dead, for kernel threads, and where there is none.

    `None` in the middle of an `exec`, after the new program has its memory and before that has been filled
    (create_elf_tables in the kernel's fs/binfmt_elf.c): first the arguments, then the environment. So one that shows
    arguments alone has come that far since the look before, or has no environment: the next look tells.
    """
    has_arguments = False
    for _ in range(EXEC_LOOKS):
        environment = _read_memory(f"/proc/{pid}/environ")
        if environment or has_arguments:
            return environment
        has_arguments = bool(_read_memory(f"/proc/{pid}/cmdline"))
        if not has_arguments:
            process = look_at(pid)
            if process is None or 2 in (pid, process.parent):  # dead, or a kernel thread
                return b""
            others = [task for task in os.listdir(f"/proc/{pid}/task") if task != str(pid)]
            if others:  # its main thread has ended
                return _read(f"/proc/{pid}/task/{others[0]}/environ")
        time.sleep(0.0003)
    return None


def _read_memory(path: str) -> bytes:
    """What is in the memory of a process; empty where it has none any more, as after the end of its main thread.

    Such a file belongs to root then (task_dump_owner in the kernel's fs/proc/base.c), so others may not read it.
    """
    try:
        return _read(path)
    except (ProcessLookupError, PermissionError):
        return b""


def _read_once(path: str) -> bytes:
    """Return what a file of one short line holds."""
    fd = os.open(path, os.O_RDONLY)  # the builtin `open` takes three times as long: a look at the file, and an object
    try:
        return os.read(fd, 1024)
    finally:
        os.close(fd)


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        data = chunk = os.read(fd, 65536)
        while chunk:  # the kernel gives some of these files a page at a time
            chunk = os.read(fd, 65536)
            data += chunk
        return data
    finally:
        os.close(fd)


def pipe_holders(inode: int) -> "list[tuple[int, bytes]]":
    """Pid and name of the other processes that have the pipe with this inode open, as far as we may look."""
    link = f"pipe:[{inode}]"
    me = os.getpid()
    found = []
    for pid in pids_between(None, newest_pid()):
        process = look_at(pid) if pid != me and _has_open(pid, link) else None
        if process is not None:
            found.append((pid, process.name))
    return found or [(0, b"unknown")]


def _has_open(pid: int, link: str) -> bool:
    try:
        return any(os.readlink(f"/proc/{pid}/fd/{fd}") == link for fd in os.listdir(f"/proc/{pid}/fd"))
    except OSError:  # gone, or not ours to look at
        return False
