"""Iterate over a program's lines, or run a pipeline, in one call."""

from collections.abc import AsyncGenerator
from typing import Literal, Unpack

from aiocmdpool.backends.config import ExecutionMode
from aiocmdpool.backends.single_commands import SingleCommands
from aiocmdpool.commands.command import CommandConfig, CommandOptions, Stdio, StrOrBytesPath
from aiocmdpool.commands.pipeline import Pipeline, PipelineResult, check_command, check_pipeline
from aiocmdpool.live.controlled import ControlledExecutor
from aiocmdpool.live.output_stream import DEFAULT_MAX_LINE
from aiocmdpool.live.pipeline_run import run_pipeline
from aiocmdpool.live.process import open_process


async def stream_command(
    command: CommandConfig,
    *,
    executor: ControlledExecutor | None = None,
    max_line: int = DEFAULT_MAX_LINE,
    long_lines: Literal["error", "split"] = "error",
) -> AsyncGenerator[bytes, None]:
    """Run `command` and iterate over the lines of its stdout as they come, without their newlines.

    Its stdin is that of the command, and nothing else is read here: stderr is captured, for errors.

    Args:
        command: The command to run.
        executor: A backend or pool of this package. `None`: the worker that this process keeps for single commands; see
            `execute`.
        max_line, long_lines: As for `OutputStream.lines`.

    Raises:
        NonZeroExit: After the last line, if the program failed and the command has `check`.
        LineTooLong: See `long_lines`.
        ConfigError: `command` is no command.
        ExecuteError: See `CommandExecutor.execute`.

    Ownership: leaving the iteration ends the program. After a `break`, that happens when the iterator is closed: use
    `contextlib.aclosing` to have it at once.
    """
    check_command(command)
    if command.stdin is Stdio.NULL:
        command = command.with_stdin(b"")
    async with open_process(executor or SingleCommands(), command, streams=("stdout",)) as process:
        async for line in process.stdout.lines(max_line=max_line, long_lines=long_lines):
            yield line
        await process.result()


def stream(
    program: StrOrBytesPath,
    *args: StrOrBytesPath,
    mode: ExecutionMode = ExecutionMode.PROCESS_POOL,
    **options: Unpack[CommandOptions],
) -> AsyncGenerator[bytes, None]:
    """Run `program` with `args` and iterate over its lines as they come.

    Keyword arguments are those of `CommandConfig`, and the `mode` of `execute`.

    Example:
        >>> async for line in stream("ping", "-c3", "localhost", check=True):
        ...     print(line.decode())

    Raises:
        ConfigError: An option is wrong.
        ExecuteError: See `stream_command`.
    """
    command = CommandConfig(program, args, **options)
    return stream_command(command, executor=SingleCommands().in_mode(mode))


async def execute_pipeline(pipeline: Pipeline, *, executor: ControlledExecutor | None = None) -> PipelineResult:
    """Run `pipeline` to its end and return its result; see `live.pipeline_run.run_pipeline` for how one ends.

    Args:
        pipeline: `command | command | …`
        executor: A backend or pool of this package. `None`: the worker that this process keeps for single commands; see
            `execute`.

    Example:
        >>> result = await execute_pipeline(CommandConfig("zcat", ["log.gz"]) | CommandConfig("wc", ["-l"]))
        >>> int(result.text())

    Raises:
        ConfigError: `pipeline` is no pipeline.
        ExecuteError: See `run_pipeline`.
    """
    check_pipeline(pipeline)
    return await run_pipeline(executor or SingleCommands(), pipeline)
