"""Controlled runs, passed through the pools and policies in front of the backend that runs them.

An executor in front of another one has that as its attribute `executor`, on which `health()` relies, too.
"""

import abc
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from aiocmdpool.commands.command import CommandConfig, CommandOptions
from aiocmdpool.commands.errors import ExecuteError
from aiocmdpool.commands.executor import CommandExecutor, is_executor
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.commands.run_control import RunControl

MOST_LAYERS = 32  # executors in front of each other, at most


class ControlledExecutor(Protocol):
    """An executor that reports the start of a program and can send signals to it."""

    async def execute(self, command: CommandConfig, *, control: RunControl | None = None) -> CommandResult:
        """Run `command` to its end and return its result; the contract is that of `CommandExecutor.execute`."""
        ...


class WholeRun(RunControl, abc.ABC):
    """Several programs that pools and policies handle as one command: one queue place, one permit, one outcome."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(lambda: None)

    @abc.abstractmethod
    def take_defaults(self, options: CommandOptions) -> None:
        """Give each program the options in `options` that it does not set itself."""

    @abc.abstractmethod
    async def run_on(self, executor: ControlledExecutor) -> CommandResult:
        """Run all programs on the backend `executor`; the contract is that of `CommandExecutor.execute`."""


def inner_of(executor: object) -> CommandExecutor | None:
    """Return the executor behind `executor`; `None` if that runs commands itself, or does not tell."""
    try:
        inner = getattr(executor, "executor", None)
        return inner if is_executor(inner) else None
    except Exception:  # a property of somebody else's that is not ready yet, say, and `executor` is any name
        return None


def layers(executor: object) -> Iterator[object]:
    """Yield an executor and all executors behind it, the outermost first.

    Not for ever: a test double may have any attribute, and an executor of a user's may lead back to itself.
    """
    seen: list[object] = []
    each: object | None = executor
    while each is not None and len(seen) < MOST_LAYERS and not any(each is one for one in seen):
        seen.append(each)
        yield each
        each = inner_of(each)


async def execute_on(executor: CommandExecutor, command: CommandConfig, control: RunControl | None) -> CommandResult:
    """Run `command` on an executor, controlled if `control` is given, and return its result."""
    if control is None:
        return await executor.execute(command)
    controlled: ControlledExecutor = executor  # type: ignore[assignment]  # `check_controlled` has looked
    if isinstance(control, WholeRun) and inner_of(executor) is None:
        return await control.run_on(controlled)
    return await controlled.execute(command, control=control)


def check_controlled(executor: object, command: CommandConfig) -> None:
    """Raise `ExecuteError` if an executor, or one behind it, can only run commands to their end.

    Raises:
        ExecuteError: The executor takes no `control`.
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
