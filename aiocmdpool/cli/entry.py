"""`main`: runs the command line, from the arguments to the exit status."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Coroutine, Sequence

from aiocmdpool.cli.arguments.options import RunOptions
from aiocmdpool.cli.arguments.parse import parse_run
from aiocmdpool.cli.execution import FIRST_RUNNERS, pool_of
from aiocmdpool.cli.prepare import Prepared, PrepareError, prepare
from aiocmdpool.cli.run import Run
from aiocmdpool.cli.stop import OTHER_ERROR_STATUS
from aiocmdpool.cli.tree import CommandTree
from aiocmdpool.commands.errors import ExecuteError

USAGE = """\
usage: aiocmdpool run [options] PROGRAM [ARG...] [::: INPUT...]
       aiocmdpool run --help
       aiocmdpool --version
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line program and return its exit status.

    Args:
        argv: Arguments without the program's name; `None`: those of this process.

    Returns:
        The exit status; `aiocmdpool run --help` lists them.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == ["run"]:
            return _run(arguments[1:])
        return _other(arguments)
    except KeyboardInterrupt:
        return 130
    except SystemExit as leaving:  # argparse, after the help or a usage error
        return leaving.code if isinstance(leaving.code, int) else 0


def _run(arguments: Sequence[str]) -> int:
    _reserve_standard_descriptors()
    options = parse_run(arguments)
    try:
        return _in_loop(_run_with_pool(options, prepare(options)))
    except (PrepareError, ExecuteError) as error:
        print(f"aiocmdpool: {error}", file=sys.stderr)
        return OTHER_ERROR_STATUS


async def _run_with_pool(options: RunOptions, prepared: Prepared) -> int:
    """Run all commands and return the exit status."""
    async with contextlib.AsyncExitStack() as stack:
        tree, pool = CommandTree(), None
        if not options.dry_run:
            pool = pool_of(options, prepared.fit.jobs, [prepared.trace] if prepared.trace is not None else [])
            await pool.start_executor(min(prepared.fit.jobs, FIRST_RUNNERS))
            stack.push_async_exit(pool)
        return await Run(options, prepared, pool, tree).to_the_end()


def _other(arguments: Sequence[str]) -> int:
    if arguments and arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if arguments and arguments[0] == "--version":
        print("aiocmdpool", _version())
        return 0
    said = f"aiocmdpool: no such command: {arguments[0]!r}; did you mean: aiocmdpool run …?\n" if arguments else ""
    print(said + USAGE, end="", file=sys.stderr)
    return OTHER_ERROR_STATUS


def _version() -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version("aiocmdpool")
    except importlib.metadata.PackageNotFoundError:
        return "(run from its source)"


def _in_loop(main: Coroutine[None, None, int]) -> int:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


def _reserve_standard_descriptors() -> None:
    """Open the null device in place of closed standard streams, so that no other file gets their numbers.

    It is opened in the wrong direction, so that using the stream still fails.
    """
    for fd, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, flags)
