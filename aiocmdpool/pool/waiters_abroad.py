"""`WaitersAbroad`: notifies coroutines on other loops that wait for tasks of a pool when its loop has died."""

import asyncio
from collections.abc import Callable

from aiocmdpool.loops.gate import LOOK_AGAIN


class WaitersAbroad:
    """Looks after the waiters on other loops now and then, with one timer for each loop on which some wait.

    Args:
        check: Called in each look; what it raises is the end of every wait.

    Concurrency: any loop may add its waiters; the looks come from that loop.
    """

    __slots__ = ("_check", "_waiters")

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._waiters: dict[asyncio.AbstractEventLoop, set[asyncio.Future[None]]] = {}

    def add(self, waiter: "asyncio.Future[None]") -> None:
        """Check the pool at intervals until `waiter`, a future of the running loop, is done; a failure goes to it."""
        loop = waiter.get_loop()
        waiters = self._waiters.get(loop)
        if waiters is None:
            for each in tuple(self._waiters):  # a closed loop drops its timers, so nobody else would forget it
                if each.is_closed():
                    self._waiters.pop(each, None)
            waiters = self._waiters[loop] = set()
            loop.call_later(LOOK_AGAIN, self._look, loop)
        waiters.add(waiter)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        waiters = self._waiters.pop(loop)
        waiters = {waiter for waiter in waiters if not waiter.done()}
        if not waiters:
            return
        try:
            self._check()
        except Exception as error:
            for waiter in waiters:
                waiter.set_exception(error)
            return
        self._waiters[loop] = waiters
        loop.call_later(LOOK_AGAIN, self._look, loop)
