"""Runs that are controlled, through whatever stands in front of the backend that has them: pools, policies.

Who stands in front of another executor shows it as its `executor`; that is all that this, and `health()`, has to know.
"""

import abc
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from aiocmdpool.commands.command import CommandConfig, CommandOptions
from aiocmdpool.commands.errors import ExecuteError
from aiocmdpool.commands.executor import CommandExecutor
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.commands.run_control import RunControl

MOST_LAYERS = 32  # executors in front of each other


class ControlledExecutor(Protocol):
    """An executor that tells of the start of a program and can signal it."""

    async def execute(self, command: CommandConfig, *, control: RunControl | None = None) -> CommandResult:
        """Run one command to its end; the contract is that of `CommandExecutor.execute`."""
        ...


class WholeRun(RunControl, abc.ABC):
    """Several programs that are one command for who stands in front of a backend: one turn, one permit, one outcome."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(lambda: None)

    @abc.abstractmethod
    def take_defaults(self, options: CommandOptions) -> None:
        """Give each program these options, where it does not set them itself."""

    @abc.abstractmethod
    async def run_on(self, executor: ControlledExecutor) -> CommandResult:
        """Run all of them on a backend; the contract is that of `CommandExecutor.execute`."""


def inner_of(executor: object) -> CommandExecutor | None:
    """What an executor stands in front of; `None` if it runs commands itself."""
    inner = getattr(executor, "executor", None)
    return inner if isinstance(inner, CommandExecutor) else None


def layers(executor: object) -> Iterator[object]:
    """Yield an executor and all that it stands in front of, the outermost first.

    Not for ever: a test double has any attribute one asks for, and somebody else's may lead back.
    """
    seen: list[object] = []
    each: object | None = executor
    while each is not None and len(seen) < MOST_LAYERS and not any(each is one for one in seen):
        seen.append(each)
        yield each
        each = inner_of(each)


async def execute_on(executor: CommandExecutor, command: CommandConfig, control: RunControl | None) -> CommandResult:
    """Run one command on an executor, controlled or not; the contract is that of `CommandExecutor.execute`."""
    if control is None:
        return await executor.execute(command)
    controlled: ControlledExecutor = executor  # type: ignore[assignment]  # `check_controlled` has looked
    if isinstance(control, WholeRun) and inner_of(executor) is None:
        return await control.run_on(controlled)
    return await controlled.execute(command, control=control)


def check_controlled(executor: object, command: CommandConfig) -> None:
    """Refuse an executor that only runs commands to their end, or stands in front of one.

    Raises:
        ExecuteError: It is such a one.
    """
    for each in layers(executor):
        if not _takes_control(getattr(type(each), "execute", None)):
            message = (
                f"{each!r} has no open, only execute(command); live processes and pipelines take a backend, a "
                "CommandPool, or policies around them"
            )
            raise ExecuteError(message, command=command)


@functools.cache
def _takes_control(execute: Callable[..., Any] | None) -> bool:
    parameters = inspect.signature(execute).parameters.values() if execute is not None else ()
    return any(each.name == "control" or each.kind is each.VAR_KEYWORD for each in parameters)
