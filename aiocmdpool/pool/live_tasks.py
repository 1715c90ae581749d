"""Live processes as tasks of a pool: each waits for its turn, holds a permit, is counted, and ends with the pool."""

from collections.abc import Awaitable, Callable

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.tasks.handle import TaskHandle


class QueuedRuns:
    """An executor for `open_process` that lets the runners of a pool do it.

    Args:
        push: Adds a command to the queue.
    """

    def __init__(self, push: Callable[[CommandConfig], Awaitable[TaskHandle]]) -> None:
        self._push = push

    async def execute(self, command: CommandConfig, *, control: RunControl | None = None) -> CommandResult:
        """Push a command and await it; see `CommandPool.execute`."""
        handle = await self._push(command)
        handle.control = control  # no runner has had a turn since it was put into the queue
        return await handle.result_or_cancel()
