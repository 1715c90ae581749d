"""`WaitingLine`: a line of coroutines that wait for room."""

import asyncio
from collections import deque


class WaitingLine:
    """A line of coroutines that wait; they are woken in the order in which they came.

    Concurrency: belongs to one loop at a time.
    """

    __slots__ = ("waiters",)

    def __init__(self) -> None:
        self.waiters: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Wait at the end of the line until the next `wake`.

        Cancellation: the caller leaves the line.
        """
        waiter = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self.waiters:  # `wake` may have come after the cancellation
                self.waiters.remove(waiter)

    def wake(self) -> None:
        """Wake all waiting coroutines, in the order in which they came."""
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
