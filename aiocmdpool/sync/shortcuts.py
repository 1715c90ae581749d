"""One command, one blocking call, nothing to set up or to close."""

from typing import Unpack

from aiocmdpool.backends.config import ExecutionMode
from aiocmdpool.commands.command import CommandConfig, CommandOptions, StrOrBytesPath
from aiocmdpool.commands.pipeline import check_command
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.sync.calls import Call
from aiocmdpool.sync.no_loop import check_no_loop
from aiocmdpool.sync.process_wide import current


def execute(command: CommandConfig, *, mode: ExecutionMode = ExecutionMode.PROCESS_POOL) -> CommandResult:
    """Run one command; the contract is that of `CommandExecutor.execute`.

    Args:
        command: What to run.
        mode: See `aiocmdpool.execute`.

    Concurrency: any number of threads at once. For many commands use a `CommandPool`.

    Interruption: what a signal handler raises here (KeyboardInterrupt, SystemExit, …) leaves when the command is dead
    and reaped.

    Raises:
        ConfigError: It is no command, or no mode.
        ExecuteError: See `CommandExecutor.execute`; also if an event loop runs in this thread.
    """
    check_no_loop("execute")
    check_command(command)
    return _execute(command, mode)


def run(
    program: StrOrBytesPath,
    *args: StrOrBytesPath,
    mode: ExecutionMode = ExecutionMode.PROCESS_POOL,
    **options: Unpack[CommandOptions],
) -> CommandResult:
    """Run a program with arguments; keyword arguments are those of `CommandConfig`, and the `mode` of `execute`.

    Example:
        >>> result = run("git", "rev-parse", "HEAD", timeout=5, check=True)
        >>> result.text().strip()

    Raises:
        ConfigError: An option is wrong.
        ExecuteError: See `execute`.
    """
    check_no_loop("run")
    return _execute(CommandConfig(program, args, **options), mode)


def _execute(command: CommandConfig, mode: ExecutionMode) -> CommandResult:
    background = current()
    return Call(background, lambda: background.backend.in_mode(mode).execute(command)).finish()
