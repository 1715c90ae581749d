"""`KeyLimit`: limits the commands that run at once for each key.

Each key has a semaphore while commands run or wait under it: there may be as many keys as hosts.
"""

import asyncio
import dataclasses
from collections.abc import Hashable, Mapping

from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ConfigError
from aiocmdpool.commands.executor import CommandExecutor, checked_executor
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.live.controlled import execute_on
from aiocmdpool.policies.keys import Key, by_program, key_of
from aiocmdpool.policies.wrapper import Wrapper

_limit = validate.whole_number(1)


@dataclasses.dataclass(slots=True)
class _Slot:
    permits: asyncio.Semaphore
    users: int = 0
    """Number of commands that run or wait."""


class KeyLimit(Wrapper):
    """An executor that runs at most `limit` commands of each key at once, in the order of the calls.

    Concurrency: belongs to one loop.

    Cancellation: releases the place that it holds, once; a waiting command holds none.

    Ownership: does not close the executor. Commands that wait here when it closes get its `PoolClosed` at their turn.

    Inside a pool, commands that wait here hold a permit of the pool; around one, they have not entered its queue.

    Args:
        executor: The executor that runs the commands.
        limit: Number of commands for each key; or a mapping from keys to numbers, without limit for other keys.
        key: Function that returns the key of a command; `None` for no limit.

    Example:
        >>> executor = KeyLimit(backend, {"ffmpeg": 2})  # by the name of the program
        >>> executor = KeyLimit(backend, 1, key=by_host)
    """

    def __init__(
        self, executor: CommandExecutor, limit: int | Mapping[Hashable, int], *, key: Key = by_program
    ) -> None:
        self._executor = checked_executor(executor)
        self._limit = _clean_limit(limit)
        self._key: Key = validate.function("key", key)
        self._slots: dict[Hashable, _Slot] = {}

    async def execute(self, command: CommandConfig, *, control: RunControl | None = None) -> CommandResult:
        """Wait until fewer than the limit run, run `command` and return its result; see `CommandExecutor.execute`.

        Raises:
            ConfigError: `key` returned a key that is not hashable.
        """
        key = key_of(self._key, command)
        limit = self._limit if isinstance(self._limit, int) else self._limit.get(key)
        if key is None or limit is None:
            return await execute_on(self._executor, command, control)
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = _Slot(asyncio.Semaphore(limit))
        slot.users += 1
        try:
            async with slot.permits:
                return await execute_on(self._executor, command, control)
        finally:
            slot.users -= 1
            if not slot.users:
                del self._slots[key]

    def __repr__(self) -> str:
        users = sum(slot.users for slot in self._slots.values())
        in_use = f"{users} commands under {len(self._slots)} keys"
        return f"<KeyLimit {self._limit!r}, {in_use}, around {self._executor!r}>"


def _clean_limit(limit: object) -> int | dict[Hashable, int]:
    if not isinstance(limit, Mapping):
        clean: int = _limit("limit", limit)
        return clean
    if not limit:
        raise ConfigError("limit: an empty mapping limits nothing; name a key", field="limit")
    return {key: _limit(f"limit[{validate.shown(key)}]", number) for key, number in limit.items()}
