"""What a fork of this process is not to hold: our ends of the pipes of programs, and theirs before they run.

While a forked child (of `multiprocessing`, say) holds a copy, a program sees no end of its input when this process
closes it, and this process no end of its output when the program does. In the child the null device takes the place of
each: the objects that own them are copies there, and may yet close the numbers.
"""

import contextlib
import os
import weakref
from collections.abc import Iterable
from typing import Protocol


class Holder(Protocol):
    """Whoever owns such descriptors."""

    def held(self) -> Iterable[int]:
        """Those that are open now; a negative number is none."""
        ...


_holders: "weakref.WeakSet[Holder]" = weakref.WeakSet()

keep_from_forks = _holders.add
"""Let go, in each fork from now on, of what this object holds at that time."""


def _let_go() -> None:
    descriptors = {fd for holder in list(_holders) for fd in holder.held() if fd >= 0}
    _holders.clear()
    if not descriptors:
        return
    with contextlib.suppress(OSError):  # without a descriptor left, there is nothing to put in their place
        null = os.open(os.devnull, os.O_RDWR)
        for fd in descriptors - {null}:
            os.dup2(null, fd, inheritable=False)
        os.close(null)


os.register_at_fork(after_in_child=_let_go)
