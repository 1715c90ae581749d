"""`QueuedRuns`: runs live processes as tasks of a pool, with a permit, counted, and ended together with the pool."""

from collections.abc import Awaitable, Callable

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.tasks.handle import TaskHandle


class QueuedRuns:
    """An executor for `open_process` that pushes commands to a pool, whose runners then run them.

    Args:
        push: Function that adds a command to the queue.
    """

    def __init__(self, push: Callable[[CommandConfig], Awaitable[TaskHandle]]) -> None:
        self._push = push

    async def execute(self, command: CommandConfig, *, control: RunControl | None = None) -> CommandResult:
        """Push `command` to the queue and await its result; see `CommandPool.execute`."""
        handle = await self._push(command)
        handle.control = control  # early enough: no runner has run since the push
        return await handle.result_or_cancel()
