"""Turns the options into a pool, and into the settings that all commands share. Decisions only."""

from typing import TYPE_CHECKING

from aiocmdpool.backends.config import ExecutionConfig, ExecutionMode
from aiocmdpool.cli.arguments.halt import HaltAction
from aiocmdpool.cli.arguments.options import RunOptions
from aiocmdpool.cli.descriptors import queued_for
from aiocmdpool.commands.command import DEFAULT_GRACE
from aiocmdpool.pool.command_pool import CommandPool
from aiocmdpool.system.cpus import cpu_count

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiocmdpool.commands.command import CommandOptions
    from aiocmdpool.observability.events import EventHook

FIRST_RUNNERS = 16  # runners of the pool at first; more are added when there are commands for them


def pool_of(options: RunOptions, jobs: int, hooks: "Iterable[EventHook]" = ()) -> CommandPool:
    """Return the pool that runs the commands, not yet started."""
    config = ExecutionConfig(
        mode=ExecutionMode.PROCESS_POOL,
        workers=min(jobs, cpu_count()),
        concurrency_limit=jobs,
        niceness=options.niceness,
    )
    return CommandPool(config, max_size=None, history=0, hooks=hooks)  # the feed keeps the queue short


def shared_options(options: RunOptions) -> "CommandOptions":
    """Return the settings that all commands share; a default is left out, so that it is not checked each time.

    Deadlines and the limit on output are not among them: the command line applies those itself (`ending`).
    """
    shared: CommandOptions = {}
    if options.grace != DEFAULT_GRACE:
        shared["grace"] = options.grace
    if options.detach:
        shared["detach"] = True
    return shared


def queued_ahead(options: RunOptions, jobs: int) -> int:
    """Return how many commands wait in the pool's queue, so that a free place is taken at once."""
    if options.halt.action is not HaltAction.NEVER:
        return 0  # a failure must be seen before the next command starts
    return queued_for(jobs)
