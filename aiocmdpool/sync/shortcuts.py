"""`run` and `execute`: run one command in a blocking call, with nothing to set up or to close."""

from typing import Unpack

from aiocmdpool.backends.config import ExecutionMode
from aiocmdpool.commands.command import CommandConfig, CommandOptions, StrOrBytesPath
from aiocmdpool.commands.pipeline import check_command
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.sync import process_wide
from aiocmdpool.sync.calls import Call
from aiocmdpool.sync.no_loop import check_no_loop


def execute(command: CommandConfig, *, mode: ExecutionMode = ExecutionMode.PROCESS_POOL) -> CommandResult:
    """Run `command` to its end and return its result; the contract is that of `CommandExecutor.execute`.

    Args:
        command: The command to run.
        mode: The execution mode; see `aiocmdpool.execute`.

    Concurrency: any number of threads at once. For many commands use a `CommandPool`.

    Interruption: an exception that a signal handler raises here (KeyboardInterrupt, SystemExit, …) is raised when the
        command is dead and reaped.

    Raises:
        ConfigError: `command` is no command, or `mode` is no mode.
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
    """Run `program` with `args` and return its result; `options` are those of `CommandConfig`, `mode` as in `execute`.

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
    background = process_wide.background()
    return Call(background, lambda: background.backend.in_mode(mode).execute(command)).finish()
