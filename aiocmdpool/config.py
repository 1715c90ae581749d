"""How commands are executed: `ExecutionConfig`, `ExecutionMode`, and the one place that picks a backend."""

import dataclasses
import enum
import os
from types import TracebackType
from typing import Protocol, Self

from aiocmdpool import validate
from aiocmdpool.backends.process import ProcessBackend
from aiocmdpool.executor import CommandExecutor


class ExecutionMode(enum.Enum):
    """Where the programs are started."""

    PROCESS = "process"
    """In this process, one child a command: nothing resident, about a millisecond of the loop for each start."""

    def __repr__(self) -> str:
        return f"ExecutionMode.{self.name}"


class ExecutionBackend(CommandExecutor, Protocol):
    """An executor with a lifecycle: entering starts what it needs, leaving ends everything it started."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    async def aclose(self) -> None:
        """End what is running and wait for it. Harmless when repeated."""


def cpu_count() -> int:
    """The number of CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionConfig:
    """How and how many at once.

    Raises:
        ConfigError: A field is wrong; the message names the field, the value and what is allowed.
    """

    mode: ExecutionMode = ExecutionMode.PROCESS
    """Which backend."""
    concurrency_limit: int | None = None
    """How many commands run at once. `None`: the number of CPUs this process may use."""

    def __post_init__(self) -> None:
        validate.instance_of(ExecutionMode)("mode", self.mode)
        validate.whole_number(1, optional=True)("concurrency_limit", self.concurrency_limit)

    @property
    def concurrency(self) -> int:
        """`concurrency_limit`, or its default."""
        return self.concurrency_limit or cpu_count()


def create_backend(config: ExecutionConfig) -> ExecutionBackend:
    """The backend for a configuration, not yet entered."""
    match config.mode:
        case ExecutionMode.PROCESS:
            return ProcessBackend()
