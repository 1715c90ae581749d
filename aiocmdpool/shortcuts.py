"""One command, one call, nothing to set up or to close."""

from typing import Unpack

from aiocmdpool.backends.child.process import ProcessBackend
from aiocmdpool.commands.command import CommandConfig, CommandOptions, StrOrBytesPath
from aiocmdpool.commands.result import CommandResult


async def execute(command: CommandConfig) -> CommandResult:
    """Run one command as a child of this process; the contract is that of `CommandExecutor.execute`.

    For many commands use a `CommandPool`: it bounds how many run at once, and can keep the starts off the loop.

    Raises:
        ExecuteError: See `CommandExecutor.execute`.
    """
    return await ProcessBackend().execute(command)


async def run(program: StrOrBytesPath, *args: StrOrBytesPath, **options: Unpack[CommandOptions]) -> CommandResult:
    """Run a program with arguments; keyword arguments are those of `CommandConfig`.

    Example:
        >>> result = await run("git", "rev-parse", "HEAD", timeout=5, check=True)
        >>> result.text().strip()

    Raises:
        ConfigError: An option is wrong.
        ExecuteError: See `CommandExecutor.execute`.
    """
    return await execute(CommandConfig(program, args, **options))
