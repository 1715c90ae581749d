"""What programs inherit of the process that starts them, beside environment and directory; and whether that changed.

Resident workers were started under the identity that this process had then. A host that drops root, or changes its
umask, later must not have its commands run under what it has given up.

Looking has a price, so it is done at three depths, measured on a 2-core machine:

- before each command (0.1 µs): the effective user;
- before the first command of a turn of the loop (1.4 µs): the umask, all user and group ids, and the groups;
- every `LIMITS_EVERY` seconds, if there are commands (30 µs): CPUs, resource limits, niceness, root directory,
  capabilities.
"""

import os
import resource
import threading
import time

LIMITS_EVERY = 0.05  # seconds
UMASK_EVERY = 0.002  # seconds; where there are threads

geteuid, set_umask, count_threads = os.geteuid, os.umask, threading.active_count
_LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})
_PRIVILEGES = (b"Cap", b"NoNewPrivs", b"Seccomp")  # how the lines that show them begin (proc_pid_status(5))


class Identity:
    """The identity of the calling thread when this was made: of what it starts, that is."""

    __slots__ = ("_ids", "_limits", "_limits_due", "_umask", "_umask_due", "_user")

    def __init__(self) -> None:
        self._user = os.geteuid()
        self._umask = current_umask()
        self._umask_due = 0.0
        self._ids = _ids()
        self._limits = _limits()
        self._limits_due = time.monotonic() + LIMITS_EVERY

    def has_changed(self, quick_look: bool = False) -> bool:
        """Whether programs started now would not be what those were that were started then.

        Args:
            quick_look: Look at the effective user only.
        """
        if geteuid() != self._user:
            return True
        return not quick_look and (self._umask_has_changed() or _ids() != self._ids or self._limits_have_changed())

    def _umask_has_changed(self) -> bool:
        """Set the umask to what it is, which tells; where there are other threads, read it in a file, less often.

        Another thread may just have made it stricter, for a file of its own, and is not to find it loosened.
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
    """The umask of this process."""
    for line in _status():
        if line.startswith(b"Umask:"):  # Linux 4.7
            return int(line.split()[1], 8)
    umask = os.umask(0o077)  # for a moment the strictest: no other thread is to make a file that is open to all
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
    """What the kernel says of the calling thread; nothing where there is no /proc, as after a chroot."""
    try:
        with open("/proc/thread-self/status", "rb", buffering=0) as file:
            return file.read().split(b"\n")
    except OSError:
        return []
