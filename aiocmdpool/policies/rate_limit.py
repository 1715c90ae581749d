"""`RateLimit`: so many starts per second.

The bucket is aiolimiter's: small, kept, without dependencies, and it takes nothing for a caller that is cancelled while
it waits. What it lacks is order: a newcomer may take what has just dripped for somebody who waited. A lock in front of
it, which asyncio hands over in the order of asking, keeps all but one away from it.
"""

import asyncio
from typing import TYPE_CHECKING

from aiocmdpool import validate
from aiocmdpool.command import CommandConfig
from aiocmdpool.executor import CommandExecutor
from aiocmdpool.policies.wrapped import wrapped
from aiocmdpool.result import CommandResult

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter


class RateLimit:
    """Starts at most `rate` commands per second, in the order of the calls.

    Within any `t` seconds at most `burst + rate * t` commands start; how long they run does not matter.

    Concurrency: belongs to the loop on which it is first used.

    Cancellation: a caller that is cancelled while it waits takes nothing; a command that is ended has been started, and
    counts.

    Ownership: does not close the executor. Those who wait here when it is closed get its `PoolClosed` at their turn.

    Inside a pool (`CommandPool(executor=RateLimit(...))`) commands that wait here hold a permit of the pool. Around a
    pool it limits how fast commands enter its queue.

    Args:
        executor: Runs the commands.
        rate: Starts per second; less than 1 is fine.
        burst: How many may start at once after a time without starts.

    Raises:
        ImportError: aiolimiter is not installed: `pip install 'aiocmdpool[policies]'`.

    Example:
        >>> executor = RateLimit(backend, rate=2, burst=5)
    """

    def __init__(self, executor: CommandExecutor, rate: float, *, burst: int = 1) -> None:
        self._executor = wrapped(executor)
        self._rate: float = validate.number(0, above=True)("rate", rate)
        self._burst: int = validate.whole_number(1)("burst", burst)
        self._bucket = _bucket(self._rate, self._burst)
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def execute(self, command: CommandConfig) -> CommandResult:
        """Wait for a start, and run the command; see `CommandExecutor.execute`."""
        self._waiting += 1
        try:
            async with self._turn:
                await self._bucket.acquire()
        finally:
            self._waiting -= 1
        return await self._executor.execute(command)

    def __repr__(self) -> str:
        limit = f"{self._rate:g} per second, burst {self._burst}"
        return f"<RateLimit {limit}, {self._waiting} waiting, around {self._executor!r}>"


def _bucket(rate: float, burst: int) -> "AsyncLimiter":
    try:
        from aiolimiter import AsyncLimiter
    except ImportError as error:
        raise ImportError(f"RateLimit needs aiolimiter: pip install 'aiocmdpool[policies]' ({error})") from error
    return AsyncLimiter(burst, burst / rate)
