"""What all policies ask of the executor they wrap, before the first command meets it."""

from aiocmdpool.commands.errors import ConfigError
from aiocmdpool.commands.executor import CommandExecutor
from aiocmdpool.commands.validate import shown


def wrapped(executor: object) -> CommandExecutor:
    """The executor, if it is one.

    A class passes for an object with `execute` by its attributes alone, and the missing parentheses would only be
    noticed at the first command.
    """
    if isinstance(executor, type):
        raise ConfigError(f"executor: {shown(executor)} is a class; give an object of it", field="executor")
    if not isinstance(executor, CommandExecutor):
        raise ConfigError(f"executor: {shown(executor)} has no execute(command)", field="executor")
    return executor
