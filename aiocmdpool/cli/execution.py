"""How the options become a pool, and the settings that all commands share. Decisions only."""

from typing import TYPE_CHECKING

from aiocmdpool.backends.config import ExecutionConfig, ExecutionMode
from aiocmdpool.cli.arguments.halt import HaltAction
from aiocmdpool.cli.arguments.parse import RunOptions
from aiocmdpool.commands.command import DEFAULT_GRACE, DEFAULT_MAX_OUTPUT
from aiocmdpool.pool.command_pool import CommandPool
from aiocmdpool.system.cpus import cpu_count

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiocmdpool.commands.command import CommandOptions
    from aiocmdpool.observability.events import EventHook


def pool_of(options: RunOptions, hooks: "Iterable[EventHook]" = ()) -> CommandPool:
    """The pool that runs the commands, not yet entered."""
    config = ExecutionConfig(
        mode=ExecutionMode.PROCESS_POOL,
        workers=min(options.jobs, cpu_count()),
        concurrency_limit=options.jobs,
        niceness=options.niceness,
    )
    return CommandPool(config, max_size=None, history=0, hooks=hooks)  # the feed keeps the queue short


def shared_options(options: RunOptions) -> "CommandOptions":
    """What all commands have in common. A default is left out: it need not be checked with each command."""
    shared: CommandOptions = {}
    if options.timeout is not None:
        shared["timeout"] = options.timeout
    if options.grace != DEFAULT_GRACE:
        shared["grace"] = options.grace
    if options.max_output != DEFAULT_MAX_OUTPUT:
        shared["max_output"] = options.max_output
    return shared


def queued_ahead(options: RunOptions) -> int:
    """How many commands wait in the pool's queue, so that what could run never waits for us."""
    if options.halt.action is not HaltAction.NEVER:
        return 0  # a failure must be seen before the next command starts
    return 1 if options.line_buffer else options.jobs  # with its pipes, each takes four descriptors
