"""Reads processes from /proc, and signals them; without /proc, there are none to see."""

import errno
import os
import time

from .procfs import (
    children_of,
    has_open,
    is_thread,
    memory_of,
    newest_pid,
    pids_between,
    read,
    read_memory,
    stat_of,
)
from .signals import signal

COOKIE = b"AIOCMDPOOL_RUN"  # environment variable that names the run of a process
EXEC_LOOKS = 3  # readings of a process without visible arguments, 0.3 ms apart
MARK_DIGITS = 10  # most digits of a request number (32 bits); int() raises an error above 4,300
UNSEEN = -1  # start time of a child that /proc could not show; unreaped, so its pid is its own
TICKS = os.sysconf("SC_CLK_TCK")  # per second
_EXITING = 0x4  # PF_EXITING in the kernel's include/linux/sched.h
_DEAD = (b"Z", b"X", b"x")  # proc_pid_stat(5)


class Process:
    """One process that was alive when it was read."""

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
        """Clock ticks from system start to process start; with the pid, this identifies a process for ever."""
        self.state = state
        """A letter of proc_pid_stat(5): R, S, D, T, …"""

    def lives(self) -> bool:
        """Return whether the process is still alive."""
        now = look_at(self.pid) if self.started != UNSEEN else look_at_child(self.pid)
        return now is not None and now.started == self.started

    def is_dying(self) -> bool:
        """Return whether the process is alive or still releasing its resources, and not yet a zombie."""
        try:
            _, fields = stat_of(self.pid)
        except OSError:
            return False
        return (fields[0] not in _DEAD or int(fields[17]) > 1) and int(fields[19]) == self.started

    def reap(self) -> None:
        """Reap the process if it is dead, and an orphan adopted by this process as a first process or a subreaper.

        Not otherwise: other code waits for the other children of this process.
        """
        try:
            _, fields = stat_of(self.pid)
            if fields[0] == b"Z" and int(fields[1]) == os.getpid() and int(fields[19]) == self.started:
                os.waitpid(self.pid, os.WNOHANG)
        except OSError:
            return  # gone, or a child of the program, which has reaped it

    def kill(self) -> None:
        """Send SIGKILL to the process; see `signal`."""
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> bool:
        """Send the signal `number` to the process; return whether that is allowed.

        It never reaches another process with the same pid: a pidfd stays with its process.
        """
        try:
            pidfd = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else -1
        except OSError:  # gone; or no free descriptors, or an old kernel
            pidfd = -1
        try:
            if not self.lives():
                return True
            if pidfd >= 0:
                signal.pidfd_send_signal(pidfd, number)
            else:
                os.kill(self.pid, number)
        except PermissionError:  # it belongs to another user (setuid)
            return False
        except OSError:  # it has exited
            return True
        finally:
            if pidfd >= 0:
                os.close(pidfd)
        return True


def look_at(pid: int) -> "Process | None":
    """Return the process `pid`; `None` if it is dead, a zombie, or not visible."""
    try:
        name, fields = stat_of(pid)
    except OSError:
        return None
    if (fields[0] in _DEAD or int(fields[6]) & _EXITING) and int(fields[17]) <= 1:
        return None  # with other threads left, only its main thread has ended
    return Process(pid, name, int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]), fields[0])


def is_alive(pid: int, started: int) -> bool:
    """Return whether the process with this pid and start time is alive."""
    now = look_at(pid)
    return now is not None and now.started == started


def started_since(process: Process, moment: float) -> bool:
    """Return whether a process was started after `moment` of the monotonic clock, within two ticks."""
    if process.started == UNSEEN:
        return True
    suspended = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()  # seconds spent suspended
    return process.started / TICKS >= moment + suspended - 2 / TICKS


def started_before(process: Process, moment: float) -> bool:
    """Return whether a process may have been started before `moment` of the monotonic clock, to the tick."""
    if process.started == UNSEEN:
        return True
    suspended = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    return process.started / TICKS <= moment + suspended


def kill_child(pid: int) -> bool:
    """Kill an unreaped child of this process, whose pid is certainly its own; return whether that is allowed."""
    try:
        os.kill(pid, signal.SIGKILL)
    except PermissionError:  # it belongs to another user (setuid)
        return False
    except OSError:
        return True
    return True


def descendants(pid: int, limit: int) -> "list[Process]":
    """Return up to `limit` living descendants of a process; none if the kernel does not list children."""
    found: list[Process] = []
    parents = [pid]
    while parents and len(found) < limit:
        for child in children_of(parents.pop()):
            process = look_at(child)
            if process is not None:
                found.append(process)
                parents.append(child)
    return found


def dead_children() -> "list[Process]":
    """Return the children of this process that are dead and not reaped."""
    found = []
    for pid in children_of(os.getpid()):
        try:
            name, fields = stat_of(pid)
        except OSError:
            continue
        if fields[0] == b"Z" and int(fields[17]) <= 1:
            parent, group, session, started = (int(fields[place]) for place in (1, 2, 3, 19))
            found.append(Process(pid, name, parent, group, session, started, fields[0]))
    return found


def look_at_child(pid: int) -> "Process | None":
    """Return a child of this process, also without a free descriptor for /proc; `None` if it is dead."""
    try:
        stat_of(pid)
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


def vfork_child_of(pid: int) -> "Process | None":
    """Return the child that a process has started with vfork(2) and that has not come to its `exec`.

    Until then the two share their memory, and the parent stands still, in state D (wait_for_vfork_done in the kernel's
    kernel/fork.c). `None` if there is none, or it is not to be seen.
    """
    try:
        memory = memory_of(pid)
        for child in children_of(pid):
            if memory_of(child) == memory:
                return look_at(child)
    except OSError:  # the parent or a child is gone
        return None
    return None


def tracer_of(pid: int) -> int:
    """Return the pid of the process that traces this one; 0 if there is none, or it is not visible."""
    try:
        _, _, rest = read(f"/proc/{pid}/status").partition(b"\nTracerPid:")
        return int(rest.split(None, 1)[0])
    except (OSError, IndexError):
        return 0


def snapshot() -> "dict[int, Process]":
    """Return all living processes by pid, in the order in which their pids were given out."""
    found = {pid: look_at(pid) for pid in pids_between(None, newest_pid())}
    return {pid: process for pid, process in found.items() if process is not None}


def in_group_or_session(leader: int) -> "list[Process]":
    """Return the other living processes of the group or session of `leader`: its descendants, so they are younger."""
    found = [look_at(pid) for pid in pids_between(leader, newest_pid())]
    return [
        each for each in found if each is not None and leader in (each.group, each.session) and not is_thread(each.pid)
    ]


def run_mark(cookie: bytes, number: int) -> bytes:
    """Return the mark for the environment of everything that a run starts."""
    return b"%s:%d" % (cookie, number)


def number_in(marks: "list[bytes]", cookie: bytes) -> int:
    """Return the number of the worker's run that is named in marks, or -1. The marks may be forged."""
    for mark in marks:
        given, _, number = mark.rpartition(b":")
        if given == cookie and number.isdigit() and len(number) <= MARK_DIGITS:
            return int(number)
    return -1


def marks_of(pid: int) -> "list[bytes] | None":
    """Return the marks of the runs that a process claims to belong to, the outermost first, as runs can be nested.

    Empty if it has none, or is not accessible. `None` if that cannot be told now, in the middle of an `exec`: ask
    again.
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
    """Return the environment of a process as /proc shows it; empty for dead processes, kernel threads, or if empty.

    `None` in the middle of an `exec`, after the new program has its memory and before that has been filled
    (create_elf_tables in the kernel's fs/binfmt_elf.c): first the arguments, then the environment. So a process that
    shows only arguments has either just come that far, or has no environment: the next reading tells.
    """
    has_arguments = False
    for _ in range(EXEC_LOOKS):
        environment = read_memory(f"/proc/{pid}/environ")
        if environment or has_arguments:
            return environment
        has_arguments = bool(read_memory(f"/proc/{pid}/cmdline"))
        if not has_arguments:
            process = look_at(pid)
            if process is None or 2 in (pid, process.parent):  # dead, or a kernel thread
                return b""
            others = [task for task in os.listdir(f"/proc/{pid}/task") if task != str(pid)]
            if others:  # its main thread has ended
                return read(f"/proc/{pid}/task/{others[0]}/environ")
        time.sleep(0.0003)
    return None


def pipe_holders(inode: int) -> "list[tuple[int, bytes]]":
    """Return pid and name of the other processes that have the pipe with this inode open, as far as visible."""
    link = f"pipe:[{inode}]"
    me = os.getpid()
    found = []
    for pid in pids_between(None, newest_pid()):
        process = look_at(pid) if pid != me and has_open(pid, link) else None
        if process is not None:
            found.append((pid, process.name))
    return found or [(0, b"unknown")]
