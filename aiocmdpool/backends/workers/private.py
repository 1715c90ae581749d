"""Descriptors between this process, its workers and their guardian, which no program may get.

A path such as `/dev/fd/7` names the descriptor with that number here; `/proc/99/fd/7` may name one of a worker.
"""

import os
import stat
import weakref
from collections.abc import Iterable
from typing import Protocol

from aiocmdpool.standalone.kernel.files import leads_to_process


class Owner(Protocol):
    """An object that owns descriptors which no program may get."""

    def private(self) -> Iterable[int]:
        """Return the descriptors that are open now; a negative number is none."""
        ...


_owners: "weakref.WeakSet[Owner]" = weakref.WeakSet()

keep_private = _owners.add
"""Refuse, from now on, the descriptors that the added `Owner` returns at the time of the check."""


class Servant(Protocol):
    """An object that stands for the process of a worker or a guardian."""

    pid: int
    """Process id; 0 for none."""


_servants: "weakref.WeakSet[Servant]" = weakref.WeakSet()

keep_out_of = _servants.add
"""Refuse, from now on, all descriptors of the process that the added `Servant` stands for at the time of the check."""


def is_in_servant(path: bytes) -> bool:
    """Return whether an absolute path, with its links resolved, leads into a process of `keep_out_of`."""
    number = os.path.basename(leads_to_process(path))
    return number.isdigit() and int(number) in {servant.pid for servant in list(_servants)}


def is_private(fd: int) -> bool:
    """Return whether `fd` is open on the same file, pipe or socket as a descriptor of `keep_private`."""
    asked = os.fstat(fd)
    if not stat.S_IFMT(asked.st_mode):
        return False  # an epoll or a pidfd: all of these share one inode, and are no streams
    known = (each for owner in list(_owners) for each in owner.private() if each >= 0)
    return any((each.st_dev, each.st_ino) == (asked.st_dev, asked.st_ino) for each in map(os.fstat, known))
