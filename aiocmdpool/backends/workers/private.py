"""Descriptors between this process, its workers and their guardian, which no program is to have.

A path such as `/dev/fd/7` names whatever has that number here; one such as `/proc/99/fd/7` what it is for a worker.
"""

import os
import stat
import weakref
from collections.abc import Iterable
from typing import Protocol

from aiocmdpool.standalone.kernel.files import leads_to_process


class Owner(Protocol):
    """Whoever has such descriptors."""

    def private(self) -> Iterable[int]:
        """Those that are open now; a negative number is none."""
        ...


_owners: "weakref.WeakSet[Owner]" = weakref.WeakSet()

keep_private = _owners.add
"""Refuse, from now on, what this object has at that time."""


class Servant(Protocol):
    """Whoever stands for a worker or a guardian."""

    pid: int
    """0 is none."""


_servants: "weakref.WeakSet[Servant]" = weakref.WeakSet()

keep_out_of = _servants.add
"""Refuse, from now on, whatever the process has that this object stands for at that time."""


def is_in_servant(path: bytes) -> bool:
    """Whether an absolute path, with its links, leads into one of these processes."""
    number = os.path.basename(leads_to_process(path))
    return number.isdigit() and int(number) in {servant.pid for servant in list(_servants)}


def is_private(fd: int) -> bool:
    """Whether a descriptor is open on the same file, pipe or socket as one of these."""
    asked = os.fstat(fd)
    if not stat.S_IFMT(asked.st_mode):
        return False  # an epoll, a pidfd: they all have one inode, and are no streams
    known = (each for owner in list(_owners) for each in owner.private() if each >= 0)
    return any((each.st_dev, each.st_ino) == (asked.st_dev, asked.st_ino) for each in map(os.fstat, known))
