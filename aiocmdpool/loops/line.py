"""A line of those who wait until there is room."""

import asyncio
from collections import deque


class WaitingLine:
    """Those who wait, first come first served.

    Concurrency: belongs to one loop at a time.
    """

    __slots__ = ("waiters",)

    def __init__(self) -> None:
        self.waiters: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Wait for `wake`.

        Cancellation: leaves the line.
        """
        waiter = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self.waiters:  # `wake` may have come between the cancellation and this
                self.waiters.remove(waiter)

    def wake(self) -> None:
        """Let all of them go, in the order in which they came."""
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
