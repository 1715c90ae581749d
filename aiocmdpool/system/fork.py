"""`keep_from_forks`: closes pipes of programs, both ends, in forked children of this process.

While a forked child (of `multiprocessing`, say) holds a copy, a program sees no end of its input when this process
closes it, and this process sees no end of the output when the program closes that. In the child each descriptor is
replaced by the null device: the owners are copied, too, and may still close the numbers.
"""

import contextlib
import os
import weakref
from collections.abc import Iterable
from typing import Protocol


class Holder(Protocol):
    """An object that owns descriptors which forked children must close."""

    def held(self) -> Iterable[int]:
        """Return the descriptors that are open now; a negative number is none."""
        ...


_holders: "weakref.WeakSet[Holder]" = weakref.WeakSet()

keep_from_forks = _holders.add
"""Replace, in each forked child from now on, the descriptors that the added `Holder` returns at that time."""


def _let_go() -> None:
    descriptors = {fd for holder in list(_holders) for fd in holder.held() if fd >= 0}
    _holders.clear()
    if not descriptors:
        return
    with contextlib.suppress(OSError):  # without a free descriptor, nothing can replace them
        null = os.open(os.devnull, os.O_RDWR)
        for fd in descriptors - {null}:
            os.dup2(null, fd, inheritable=False)
        os.close(null)


os.register_at_fork(after_in_child=_let_go)
