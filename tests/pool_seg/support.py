"""Threads beside a loop: shared by the tests of `CommandPoolSeg`."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from pool.support import PATIENCE


class Thread:
    """A function in a thread of its own; await it for what that returns or raises."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._function = function
        self._args = args
        self._value: Any = None
        self._error: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._over = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, daemon=True)  # one that hangs fails its test, and no more
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._function(*self._args)
        except BaseException as error:
            self._error = error
        self._loop.call_soon_threadsafe(self._over.set_result, None)

    async def result(self) -> Any:
        async with asyncio.timeout(PATIENCE):
            await self._over
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value

    def __await__(self) -> Any:
        return self.result().__await__()

    def done(self) -> bool:
        return self._over.done()


async def threads(count: int, function: Callable[[int], Any]) -> list[Any]:
    """What a function of a number gives in so many threads at once."""
    together = threading.Barrier(count)

    def run(number: int) -> Any:
        together.wait(PATIENCE)
        return function(number)

    running = [Thread(run, number) for number in range(count)]
    return [await thread for thread in running]


async def blocked_in(handle: Any, count: int = 1) -> None:
    """Wait until so many wait for a task."""
    async with asyncio.timeout(PATIENCE):
        while len(handle._listeners or ()) < count:
            await asyncio.sleep(0.001)
