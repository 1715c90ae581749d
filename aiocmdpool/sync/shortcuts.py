"""One command, one blocking call, nothing to set up or to close."""

from typing import Unpack

from aiocmdpool.commands.command import CommandConfig, CommandOptions, StrOrBytesPath
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.sync.calls import Call
from aiocmdpool.sync.no_loop import check_no_loop
from aiocmdpool.sync.process_wide import current


def execute(command: CommandConfig) -> CommandResult:
    """Run one command as a child of this process; otherwise the contract is that of `CommandExecutor.execute`.

    Concurrency: any number of threads at once; all starts happen in the background thread. For many commands use a
    `CommandPool`.

    Interruption: what a signal handler raises here (KeyboardInterrupt, SystemExit, …) leaves when the command is dead
    and reaped.

    Raises:
        ExecuteError: See `CommandExecutor.execute`; also if an event loop runs in this thread.
    """
    check_no_loop("execute")
    return _execute(command)


def run(program: StrOrBytesPath, *args: StrOrBytesPath, **options: Unpack[CommandOptions]) -> CommandResult:
    """Run a program with arguments; keyword arguments are those of `CommandConfig`.

    Example:
        >>> result = run("git", "rev-parse", "HEAD", timeout=5, check=True)
        >>> result.text().strip()

    Raises:
        ConfigError: An option is wrong.
        ExecuteError: See `execute`.
    """
    check_no_loop("run")
    return _execute(CommandConfig(program, args, **options))


def _execute(command: CommandConfig) -> CommandResult:
    background = current()
    return Call(background, lambda: background.backend.execute(command)).finish()
