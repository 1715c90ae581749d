"""`RateLimit`: limits the starts of commands per second.

The bucket is aiolimiter's: small, maintained, without dependencies, and a caller that is cancelled while it waits takes
nothing. What it lacks is order: a newcomer may take the capacity for which another one has waited. A lock in front of
it, which asyncio grants in the order of requests, admits one caller at a time.
"""

import asyncio
import dataclasses
from collections.abc import Hashable
from typing import TYPE_CHECKING

from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.executor import CommandExecutor, checked_executor
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.live.controlled import execute_on
from aiocmdpool.policies.keys import Key, key_of
from aiocmdpool.policies.wrapper import Wrapper

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

_FEW = 64  # buckets; with fewer it is not worth searching for full ones


@dataclasses.dataclass(slots=True)
class _Bucket:
    limiter: "AsyncLimiter"
    turn: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    waiting: int = 0
    used_at: float = 0.0
    """Time of the last start that was taken from the bucket, by the clock of the loop."""


class RateLimit(Wrapper):
    """An executor that starts at most `rate` commands per second, in the order of the calls.

    Within any `t` seconds at most `burst + rate * t` commands start; how long they run does not matter.

    Concurrency: belongs to the loop on which it is first used.

    Cancellation: a caller that is cancelled while it waits takes nothing; a command that is ended has been started, and
    counts.

    Ownership: does not close the executor. Commands that wait here when it closes get its `PoolClosed` at their turn.

    Inside a pool (`CommandPool(executor=RateLimit(...))`) commands that wait here hold a permit of the pool. Around a
    pool it limits how fast commands enter its queue.

    Args:
        executor: The executor that runs the commands.
        rate: Starts per second; less than 1 is fine.
        burst: Number of commands that may start at once after a time without starts.
        key: Function that returns the key of a command, each of which has a rate of its own; `None` for no limit.
            Without a function all commands share one rate.

    Raises:
        ImportError: aiolimiter is not installed: `pip install 'aiocmdpool[policies]'`.

    Example:
        >>> executor = RateLimit(backend, rate=2, burst=5)
        >>> executor = RateLimit(backend, rate=0.5, key=by_host)  # each host is asked every other second
    """

    def __init__(self, executor: CommandExecutor, rate: float, *, burst: int = 1, key: Key | None = None) -> None:
        self._executor = checked_executor(executor)
        self._rate: float = validate.number(0, above=True)("rate", rate)
        self._burst: int = validate.whole_number(1)("burst", burst)
        self._key: Key | None = None if key is None else validate.function("key", key)
        self._new_limiter = _limiter_type()
        self._buckets: dict[Hashable, _Bucket] = {}
        self._sweep_at = _FEW

    async def execute(self, command: CommandConfig, *, control: RunControl | None = None) -> CommandResult:
        """Wait for a free start, run `command` and return its result; see `CommandExecutor.execute`.

        Raises:
            ConfigError: `key` returned a key that is not hashable.
        """
        if self._key is None:
            await self._wait(self._bucket(None))
        elif (key := key_of(self._key, command)) is not None:
            await self._wait(self._bucket(key))
        return await execute_on(self._executor, command, control)

    async def _wait(self, bucket: _Bucket) -> None:
        bucket.waiting += 1
        try:
            async with bucket.turn:
                await bucket.limiter.acquire()
                bucket.used_at = asyncio.get_running_loop().time()
        finally:  # a collected coroutine gets here, too, without a loop
            bucket.waiting -= 1

    def _bucket(self, key: Hashable) -> _Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._sweep_at:
                self._sweep()
            bucket = self._buckets[key] = _Bucket(self._new_limiter(self._burst, self._burst / self._rate))
        return bucket

    def _sweep(self) -> None:
        """Drop the buckets that are full again, which are like new ones: there may be as many keys as hosts."""
        full_before = asyncio.get_running_loop().time() - self._burst / self._rate
        self._buckets = {
            key: bucket for key, bucket in self._buckets.items() if bucket.waiting or bucket.used_at > full_before
        }
        self._sweep_at = max(_FEW, 2 * len(self._buckets))

    def __repr__(self) -> str:
        waiting = sum(bucket.waiting for bucket in self._buckets.values())
        limit = f"{self._rate:g} per second, burst {self._burst}" + (" for each key" if self._key else "")
        return f"<RateLimit {limit}, {waiting} waiting, around {self._executor!r}>"


def _limiter_type() -> "type[AsyncLimiter]":
    try:
        from aiolimiter import AsyncLimiter
    except ImportError as error:
        raise ImportError(f"RateLimit needs aiolimiter: pip install 'aiocmdpool[policies]' ({error})") from error
    return AsyncLimiter
