"""`run` and `execute`: run one command in one call, with nothing to set up or to close."""

from typing import Unpack

from aiocmdpool.backends.config import ExecutionMode
from aiocmdpool.backends.single_commands import SingleCommands
from aiocmdpool.commands.command import CommandConfig, CommandOptions, StrOrBytesPath
from aiocmdpool.commands.pipeline import check_command
from aiocmdpool.commands.result import CommandResult


async def execute(command: CommandConfig, *, mode: ExecutionMode = ExecutionMode.PROCESS_POOL) -> CommandResult:
    """Run `command` to its end and return its result; the contract is that of `CommandExecutor.execute`.

    For many commands use a `CommandPool`: it bounds how many run at once.

    Args:
        command: The command to run.
        mode: `PROCESS_POOL`: in a worker that this process keeps for single commands; it starts with the first command
            and exits after a minute without any. If none can be started, and with `PROCESS`: as a child of this
            process, which outlives it if it is killed. The worker is a child of this process, too: `os.wait()` and
            `os.waitpid(-1, …)` of a host that waits for any child may return it; with `PROCESS` there is none.

    Raises:
        ConfigError: `command` is no command, or `mode` is no mode.
        ExecuteError: See `CommandExecutor.execute`.
    """
    check_command(command)
    return await SingleCommands().in_mode(mode).execute(command)


async def run(
    program: StrOrBytesPath,
    *args: StrOrBytesPath,
    mode: ExecutionMode = ExecutionMode.PROCESS_POOL,
    **options: Unpack[CommandOptions],
) -> CommandResult:
    """Run `program` with `args` and return its result; `options` are those of `CommandConfig`.

    Example:
        >>> result = await run("git", "rev-parse", "HEAD", timeout=5, check=True)
        >>> result.text().strip()

    Raises:
        ConfigError: An option is wrong.
        ExecuteError: See `CommandExecutor.execute`.
    """
    return await execute(CommandConfig(program, args, **options), mode=mode)
