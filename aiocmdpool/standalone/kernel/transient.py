"""Starting again what failed for a reason that passes by itself: who waits, and for how long."""

import errno
import time

PATIENCE = 1.0  # seconds in all
FIRST_DELAY = 0.005  # seconds; doubles each time
LONGEST_DELAY = 0.1

PASSING = frozenset(
    (
        errno.ETXTBSY,  # somebody still has the program open for writing, perhaps a fork of another thread (go#22315)
        errno.EAGAIN,  # as many processes as there may be
        errno.EMFILE,  # or descriptors
        errno.ENFILE,
        errno.ENOMEM,
    )
)


class Patience:
    """What is left of it for one start."""

    __slots__ = ("_delay", "_until")

    def __init__(self) -> None:
        self._until = time.monotonic() + PATIENCE
        self._delay = FIRST_DELAY

    def delay(self, number: "int | None") -> float:
        """Seconds to wait before the next attempt after one that failed with this errno; -1 if it is of no use."""
        if number not in PASSING or time.monotonic() >= self._until:
            return -1.0
        delay, self._delay = self._delay, min(2 * self._delay, LONGEST_DELAY)
        return delay
