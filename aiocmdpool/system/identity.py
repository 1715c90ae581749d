"""`Identity`: what programs inherit from the process that starts them, and whether that has changed.

Resident workers were started with the identity that this process had then. If a host drops root or changes its umask
later, its commands must not run with what it has given up.

Checking has a price, so it is done at three depths, measured on a 2-core machine:

- before each command (0.1 µs): the effective user;
- before the first command of an iteration of the loop (1.4 µs): the umask, all user and group ids, and the groups;
- every `LIMITS_EVERY` seconds, if there are commands (30 µs): CPUs, resource limits, niceness, root directory,
  capabilities.
"""

import os
import resource
import threading
import time

LIMITS_EVERY = 0.05  # seconds between checks of the limits
UMASK_EVERY = 0.002  # seconds between checks if there are threads

geteuid, set_umask, count_threads = os.geteuid, os.umask, threading.active_count
_LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})
_PRIVILEGES = (b"Cap", b"NoNewPrivs", b"Seccomp")  # prefixes of the lines that show them (proc_pid_status(5))


class Identity:
    """The identity of the calling thread when this object was made, which its programs inherit."""

    __slots__ = ("_ids", "_limits", "_limits_due", "_umask", "_umask_due", "_user")

    def __init__(self) -> None:
        self._user = os.geteuid()
        self._umask = current_umask()
        self._umask_due = 0.0
        self._ids = _ids()
        self._limits = _limits()
        self._limits_due = time.monotonic() + LIMITS_EVERY

    def has_changed(self, quick_look: bool = False) -> bool:
        """Return whether programs started now would differ in identity from those started when this was made.

        Args:
            quick_look: Whether to check the effective user only.
        """
        if geteuid() != self._user:
            return True
        return not quick_look and (self._umask_has_changed() or _ids() != self._ids or self._limits_have_changed())

    def _umask_has_changed(self) -> bool:
        """Return whether the umask has changed: by setting it; from a file and less often if there are other threads.

        Another thread may just have made it stricter, for a file of its own, and must not find it loosened.
        """
        if count_threads() == 1:
            umask = set_umask(self._umask)
            if umask != self._umask:
                set_umask(umask)
            return umask != self._umask
        now = time.monotonic()
        if now < self._umask_due:
            return False
        self._umask_due = now + UMASK_EVERY
        return current_umask() != self._umask

    def _limits_have_changed(self) -> bool:
        now = time.monotonic()
        if now < self._limits_due:
            return False
        self._limits_due = now + LIMITS_EVERY
        return _limits() != self._limits


def current_umask() -> int:
    """Return the umask of this process."""
    for line in _status():
        if line.startswith(b"Umask:"):  # Linux 4.7
            return int(line.split()[1], 8)
    umask = os.umask(0o077)  # the strictest, for a moment: another thread must not create a file that is open to all
    os.umask(umask)
    return umask


def _ids() -> tuple[object, ...]:
    if hasattr(os, "getresuid"):
        return os.getresuid(), os.getresgid(), os.getgroups()
    return os.getuid(), os.getgid(), os.getegid(), os.getgroups()


def _limits() -> tuple[object, ...]:
    root = os.stat("/")
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    privileges = [line for line in _status() if line.startswith(_PRIVILEGES)]
    limits = [resource.getrlimit(number) for number in _LIMITS]
    return cpus, limits, os.getpriority(os.PRIO_PROCESS, 0), root.st_dev, root.st_ino, privileges


def _status() -> list[bytes]:
    """Return the lines of the calling thread's status; empty without /proc, as after a chroot."""
    try:
        with open("/proc/thread-self/status", "rb", buffering=0) as file:
            return file.read().split(b"\n")
    except OSError:
        return []
