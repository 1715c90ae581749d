"""`OutputBudget`: the budget for output that a backend holds in this process, where it reads the pipes itself."""

import threading
from types import TracebackType

from aiocmdpool.commands.validate import ByteBudget
from aiocmdpool.loops.line import WaitingLine
from aiocmdpool.system.memory import default_output_budget


class OutputBudget:
    """The limit on the captured bytes that all commands of a backend hold together, beyond a free share of each.

    Args:
        limit: Bytes. `None`: no limit. "auto": half of the free memory when the first of it is taken.

    Concurrency: any thread may take and give back; only the thread of the loop waits and wakes.
    """

    def __init__(self, limit: ByteBudget) -> None:
        self._limit = limit
        self._lock = threading.Lock()  # protects the limit and `held`
        self.held = 0
        self.line = WaitingLine()
        """Commands that wait until some of the budget is left."""

    def has_headroom(self) -> bool:
        """Return whether any of the budget is left, or nothing is held."""
        return not self.held or self._limit is None or self._limit == "auto" or self.held < self._limit

    def take(self, wanted: int) -> int:
        """Take up to `wanted` bytes, and return how many were granted."""
        with self._lock:
            if self._limit == "auto":
                self._limit = default_output_budget()
            granted = wanted if self._limit is None else max(0, min(wanted, self._limit - self.held))
            self.held += granted
            return granted

    def give_back(self, size: int) -> None:
        """Return `size` bytes to the budget."""
        with self._lock:
            self.held -= size

    async def wait_for_headroom(self) -> None:
        """Wait, first come first served, until some of the budget is left."""
        if self.line.waiters or not self.has_headroom():
            await self.line.wait()

    def wake(self) -> None:
        """Wake the waiting commands if some of the budget is left."""
        if self.line.waiters and self.has_headroom():
            self.line.wake()


class Allowance:
    """The share of one command in a budget; as a context manager, returns it when the result is handed over."""

    __slots__ = ("_budget", "_taken")

    def __init__(self, budget: OutputBudget) -> None:
        self._budget = budget
        self._taken = 0

    def take(self, wanted: int) -> int:
        """Take up to `wanted` bytes more, and return how many were granted."""
        granted = self._budget.take(wanted)
        self._taken += granted
        return granted

    def __enter__(self) -> "Allowance":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._taken:
            self._budget.give_back(self._taken)
        self._budget.wake()
