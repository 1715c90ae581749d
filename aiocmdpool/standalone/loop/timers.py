"""`Timers`: the deadlines of a worker, as a heap of callbacks."""

import heapq
import time

LONGEST = 86400.0  # seconds; epoll_wait(2) takes no more than 24 days
monotonic = time.monotonic


class Timer:
    """One pending callback of an owner."""

    __slots__ = ("callback", "owner")

    def __init__(self, callback, owner) -> None:  # type: ignore[no-untyped-def]  # a Callable; no typing here
        self.callback = callback
        self.owner = owner

    def cancel(self) -> None:
        """Cancel the callback, so that it is never called."""
        self.callback = None


class Timers:
    """Callbacks by their due time. Cancelled ones are dropped when due, or when they outnumber the others.

    Args:
        failed: Called with (owner, exception) when a callback that has an owner raises; what others raise ends `fire`.
    """

    def __init__(self, failed=None) -> None:  # type: ignore[no-untyped-def]
        self._failed = failed
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0
        self._compact_at = 256

    def add(self, seconds: float, callback, owner=None) -> Timer:  # type: ignore[no-untyped-def]
        """Call `callback` in `seconds`; `owner` gets its exceptions. Return the timer, which can be cancelled."""
        self._count += 1
        timer = Timer(callback, owner)
        heapq.heappush(self._heap, (monotonic() + seconds, self._count, timer))
        if len(self._heap) > self._compact_at:
            self._heap = [entry for entry in self._heap if entry[2].callback is not None]
            heapq.heapify(self._heap)
            self._compact_at = 2 * len(self._heap) + 256
        return timer

    def wait(self) -> float:
        """Return the seconds until the next callback is due, at most `LONGEST`; -1 if there is none."""
        heap = self._heap
        while heap and heap[0][2].callback is None:
            heapq.heappop(heap)
        return min(max(0.0, heap[0][0] - monotonic()), LONGEST) if heap else -1.0

    def fire(self) -> None:
        """Call all callbacks that are due."""
        now = monotonic()
        while self._heap and self._heap[0][0] <= now:
            timer = heapq.heappop(self._heap)[2]
            if timer.callback is None:
                continue
            try:
                timer.callback()
            except Exception as error:
                if timer.owner is None:
                    raise
                self._failed(timer.owner, error)
