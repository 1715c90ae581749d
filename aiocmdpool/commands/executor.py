"""`CommandExecutor`: the one contract of everything that can run a command."""

from typing import Protocol, TypeGuard, runtime_checkable

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ConfigError, ExecuteError
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.commands.validate import shown


@runtime_checkable
class CommandExecutor(Protocol):
    """Any object with `async execute(command) -> CommandResult`.

    Backends and pools are executors, so executors wrap each other: retries, limits, tracing or another machine
    are objects with the same single method. There is nothing to inherit.
    """

    async def execute(self, command: CommandConfig) -> CommandResult:
        """Run `command` to its end and return its result.

        A failure to start raises `IoError`, a deadline `CommandTimeout`, and so on down `ExecuteError`. When the
        await is cancelled, the command is dead and reaped before `CancelledError` leaves.
        """
        ...


def is_executor(value: object) -> TypeGuard[CommandExecutor]:
    """Return whether `value` has an `execute` that can be called.

    Asked in the way of Python itself, `isinstance` would not see one that `__getattr__` returns, since Python 3.12.
    """
    return callable(getattr(value, "execute", None))


def checked_executor(executor: object) -> CommandExecutor:
    """Return `executor` if it is one; raise `ConfigError` if not.

    A class with `execute` would pass as an object by its attributes, and the missing parentheses would only be noticed
    at the first command.
    """
    if isinstance(executor, type):
        raise ConfigError(f"executor: {shown(executor)} is a class; give an object of it", field="executor")
    if not is_executor(executor):
        raise ConfigError(f"executor: {shown(executor)} has no execute(command)", field="executor")
    return executor


def checked_result(result: object, command: CommandConfig) -> CommandResult:
    """Return `result` if it is a `CommandResult`; raise `ExecuteError` if an executor broke its contract."""
    if not isinstance(result, CommandResult):
        message = f"{command.display()}: the executor returned {result!r}, not a CommandResult"
        raise ExecuteError(message, command=command)
    return result
