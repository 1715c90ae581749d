"""The one contract: whatever can run a command."""

from typing import Protocol, runtime_checkable

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ExecuteError
from aiocmdpool.commands.result import CommandResult


@runtime_checkable
class CommandExecutor(Protocol):
    """Anything with `async execute(command) -> CommandResult`.

    Backends and pools are executors, so executors wrap each other: retries, limits, tracing or another machine
    are objects with the same single method. There is nothing to inherit.
    """

    async def execute(self, command: CommandConfig) -> CommandResult:
        """Run one command to its end.

        A failure to start raises `IoError`, a deadline `CommandTimeout`, and so on down `ExecuteError`. When the
        await is cancelled, the command is dead and reaped before `CancelledError` leaves.
        """
        ...


def checked_result(result: object, command: CommandConfig) -> CommandResult:
    """What an executor of somebody else's returned, if it kept the contract."""
    if not isinstance(result, CommandResult):
        message = f"{command.display()}: the executor returned {result!r}, not a CommandResult"
        raise ExecuteError(message, command=command)
    return result
