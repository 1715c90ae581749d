"""Repeated starts after an error that may pass by itself: which errors, how often, for how long."""

import errno
import time

RETRY_FOR = 1.0  # seconds in total
FIRST_DELAY = 0.005  # seconds; doubles each time
LONGEST_DELAY = 0.1

PASSING = frozenset(
    (
        errno.ETXTBSY,  # another process has the program open for writing, perhaps a fork of another thread (go#22315)
        errno.EAGAIN,  # the limit on processes
        errno.EMFILE,  # the limit on descriptors
        errno.ENFILE,
        errno.ENOMEM,
    )
)


class StartRetry:
    """The time left for trying one failed start again, and the pause before the next attempt."""

    __slots__ = ("_delay", "_until")

    def __init__(self) -> None:
        self._until = time.monotonic() + RETRY_FOR
        self._delay = FIRST_DELAY

    def delay(self, number: "int | None") -> float:
        """Return the seconds to wait before the next attempt after this errno; -1 if another is of no use."""
        if number not in PASSING or time.monotonic() >= self._until:
            return -1.0
        delay, self._delay = self._delay, min(2 * self._delay, LONGEST_DELAY)
        return delay
