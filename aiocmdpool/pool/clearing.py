"""`Clearing`: cancels any number of tasks, a limited number in each iteration of the event loop."""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from math import inf
from time import perf_counter

from aiocmdpool.tasks.handle import Cancellation, TaskHandle
from aiocmdpool.tasks.thread_handle import running_loop

SLICE = 0.001  # seconds per iteration; the waiters woken by a slice need a few times as much in the next one
BATCH = 16  # tasks between two readings of the clock


class Clearing:
    """Tasks that have left the queue and are still to be cancelled; a small number is cancelled at once.

    Args:
        settle: Called with each task and its cancellation. Must not raise.
    """

    __slots__ = ("_backlogs", "_is_scheduled", "_settle", "_works")

    def __init__(self, settle: Callable[[TaskHandle, Cancellation], object]) -> None:
        self._settle = settle
        self._backlogs: deque[tuple[Iterator[TaskHandle], Cancellation]] = deque()
        self._is_scheduled = self._works = False

    def add(self, handles: Iterator[TaskHandle], cancellation: Cancellation) -> None:
        """Cancel the tasks of `handles`; on a running loop in slices, without one all at once."""
        self._backlogs.append((handles, cancellation))
        if running_loop() is None:
            self.finish()
        elif not self._is_scheduled:
            self._cancel_slice()

    def finish(self) -> None:
        """Cancel all tasks that are left, now."""
        self._work(inf)

    def _cancel_slice(self) -> None:
        self._is_scheduled = False
        self._work(perf_counter() + SLICE)
        loop = running_loop()
        if self._backlogs and loop is not None and not self._works:
            self._is_scheduled = True
            loop.call_soon(self._cancel_slice)

    def _work(self, until: float) -> None:
        if self._works:  # a hook that one of them was reported to clears the queue
            return
        self._works = True
        try:
            while self._backlogs and perf_counter() < until:
                handles, cancellation = self._backlogs[0]
                last = None
                for last in islice(handles, BATCH):
                    self._settle(last, cancellation)
                if last is None:
                    self._backlogs.popleft()
        finally:
            self._works = False
