"""`Wrapper`: the base class of policies: a wrapped executor, and access to its live processes."""

import abc
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.executor import CommandExecutor
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.live.process import LiveProcess, open_process
from aiocmdpool.live.terminal import WindowSize
from aiocmdpool.live.wiring import ALL


class Wrapper(abc.ABC):
    """Base class of an executor in front of another one."""

    _executor: CommandExecutor

    @property
    def executor(self) -> CommandExecutor:
        """Return the executor that this one wraps."""
        return self._executor

    @abc.abstractmethod
    async def execute(self, command: CommandConfig, *, control: RunControl | None = None) -> CommandResult:
        """Run `command` to its end and return its result; the contract is that of `CommandExecutor.execute`."""
        ...

    def open(
        self, command: CommandConfig, *, streams: Collection[str] = ALL, pty: bool | WindowSize = False
    ) -> AbstractAsyncContextManager[LiveProcess]:
        """Start a program when this policy lets it, and talk to it; see `live.process.open_process`.

        The policy regards it as running until the block is left.
        """
        return open_process(self, command, streams=streams, pty=pty)
