"""The one contract: whatever can run a command."""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from aiocmdpool.command import CommandConfig
    from aiocmdpool.result import CommandResult


@runtime_checkable
class CommandExecutor(Protocol):
    """Anything with `async execute(command) -> CommandResult`.

    Backends and pools are executors, so executors wrap each other: retries, limits, tracing or another machine
    are objects with the same single method. There is nothing to inherit.
    """

    async def execute(self, command: "CommandConfig") -> "CommandResult":
        """Run one command to its end.

        A failure to start raises `IoError`, a deadline `CommandTimeout`, and so on down `ExecuteError`. When the
        await is cancelled, the command is dead and reaped before `CancelledError` leaves.
        """
        ...
