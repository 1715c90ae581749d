"""`wrapped`: the check that all policies make of the executor they wrap, before the first command."""

from aiocmdpool.commands.errors import ConfigError
from aiocmdpool.commands.executor import CommandExecutor
from aiocmdpool.commands.validate import shown


def wrapped(executor: object) -> CommandExecutor:
    """Return `executor` if it is one; raise `ConfigError` if not.

    A class with `execute` would pass as an object by its attributes, and the missing parentheses would only be noticed
    at the first command.
    """
    if isinstance(executor, type):
        raise ConfigError(f"executor: {shown(executor)} is a class; give an object of it", field="executor")
    if not isinstance(executor, CommandExecutor):
        raise ConfigError(f"executor: {shown(executor)} has no execute(command)", field="executor")
    return executor
