"""`Identity`: what programs inherit from the process that starts them, and whether that has changed.

Resident workers were started with the identity that this process had then. If a host drops root or changes its umask
later, its commands must not run with what it has given up.

Checking has a price, so it is done at three depths, measured on a 2-core machine:

- before each command (0.3 µs): the effective user and group;
- before the first command of an iteration of the loop (5 µs): the umask, all user and group ids and the groups, CPUs,
  niceness, scheduling policy, capabilities, no_new_privs, root directory;
- before a command that finds all workers idle, else every `WHOLE_EVERY` seconds (20 µs): resource limits, namespaces,
  I/O class, and the privileges that only a file shows.

So a process that changes its identity while no command runs is followed at once in everything. What cannot be read (no
descriptors left, no /proc after a chroot) counts as unchanged.
"""

import os
import resource
import threading
import time

from aiocmdpool.system.native import Privileges, has_idle_io, scheduling_policy

WHOLE_EVERY = 0.05  # seconds
OF_A_START = 16  # descriptors: more than the start of a worker takes
UMASK_EVERY = 0.002  # seconds; where there are threads

geteuid, getegid, set_umask, count_threads = os.geteuid, os.getegid, os.umask, threading.active_count
_LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})
_PRIVILEGES = b"\nCapInh:", b"\nCpus_allowed:"  # where the lines begin and end that show them (proc_pid_status(5))
_NAMESPACES = [f"/proc/thread-self/ns/{name}" for name in ("mnt", "net", "user", "uts", "ipc")]
# Not that of pids: in a new one, the first worker would be init, and no process could be started after its death.


class Identity:
    """The identity of the calling thread when this object was made, which its programs inherit."""

    __slots__ = ("_group", "_privileges", "_rest", "_traits", "_umask", "_umask_due", "_user", "_whole_due")

    def __init__(self) -> None:
        self._privileges = Privileges()
        self._user, self._group = geteuid(), getegid()
        self._umask = current_umask()
        self._umask_due = 0.0
        self._traits = self._look()
        self._rest = _rest()
        self._whole_due = time.monotonic() + WHOLE_EVERY

    def has_changed(self, quick_look: bool = False, whole_look: bool = False) -> bool:
        """Return whether a program started now would inherit another identity than one started back then.

        Args:
            quick_look: Whether to compare the effective user and group only.
            whole_look: Whether to compare everything, even if that was done a moment ago.
        """
        if geteuid() != self._user or getegid() != self._group:
            return True
        if quick_look:
            return False
        return self._umask_has_changed(whole_look) or self._look() != self._traits or self._rest_has_changed(whole_look)

    def _umask_has_changed(self, whole_look: bool) -> bool:
        """Return whether the umask has changed: set it, which returns the old one; with threads read /proc, less often.

        Another thread may just have made it stricter for a file of its own, and must not find it loosened.
        """
        # Not `_thread._count`: after a fork it counts the threads of the parent, and never those that C has started.
        if count_threads() == 1:
            umask = set_umask(self._umask)
            if umask != self._umask:
                set_umask(umask)
            return umask != self._umask
        now = time.monotonic()
        if now < self._umask_due and not whole_look:
            return False
        self._umask_due = now + UMASK_EVERY
        return current_umask() != self._umask

    def _look(self) -> tuple[object, ...]:
        root = os.stat("/")
        niceness = os.getpriority(os.PRIO_PROCESS, 0)
        return _ids(), _cpus(), niceness, scheduling_policy(), self._privileges.look(), root.st_ino, root.st_dev

    def _rest_has_changed(self, whole_look: bool) -> bool:
        now = time.monotonic()
        if now < self._whole_due and not whole_look:
            return False
        self._whole_due = now + WHOLE_EVERY
        (limits, *rest), (limits_then, *rest_then) = _rest(), self._rest
        if any(now != then and now is not None for now, then in zip(rest, rest_then, strict=True)):
            return True
        return limits != limits_then and _can_start_workers()


def current_umask() -> int:
    """Return the umask of this process."""
    _, found, rest = (_status() or b"").partition(b"\nUmask:")
    if found:  # Linux 4.7
        return int(rest.split(None, 1)[0], 8)
    umask = os.umask(0o077)  # for a moment the strictest: no other thread is to make a file that is open to all
    os.umask(umask)
    return umask


def _ids() -> tuple[object, ...]:
    if hasattr(os, "getresuid"):
        return os.getresuid(), os.getresgid(), os.getgroups()
    return os.getuid(), os.getgid(), os.getegid(), os.getgroups()


def _cpus() -> set[int] | None:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None


def _rest() -> tuple[object, ...]:
    return _limits(), _namespaces(), has_idle_io(), _file_of_privileges()


def _can_start_workers() -> bool:
    """Return whether there are descriptors for new workers: a host that has come to that limit keeps those it has."""
    taken: list[int] = []
    try:
        while len(taken) < OF_A_START:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return False
    finally:
        for fd in taken:
            os.close(fd)
    return True


def _limits() -> list[tuple[int, int]]:
    return list(map(resource.getrlimit, _LIMITS))


def _namespaces() -> list[str] | None:
    try:
        return list(map(os.readlink, _NAMESPACES))
    except OSError:  # no /proc, or a kernel without one of them
        return None


def _file_of_privileges() -> bytes | None:
    """Return the lines of /proc on what `Privileges` leaves out: other capability sets, seccomp, speculation."""
    status = _status() or b""
    start, end = map(status.find, _PRIVILEGES)
    return status[start:end] if 0 <= start < end else None


def _status() -> bytes | None:
    """Return the status file of the calling thread; `None` where there is no /proc, as after a chroot."""
    try:
        fd = os.open("/proc/thread-self/status", os.O_RDONLY)  # a third of what the builtin `open` takes
    except OSError:
        return None
    try:
        return os.read(fd, 8192)
    finally:
        os.close(fd)
