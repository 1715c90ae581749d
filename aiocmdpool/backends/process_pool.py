"""`ProcessPoolBackend`: commands are started by resident workers, off the loop."""

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

from aiocmdpool.backends.workers.process_pool import DEFAULT_HANG_AFTER, ProcessPool
from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig, StrOrBytesPath
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.live.process import LiveProcess
from aiocmdpool.live.terminal import WindowSize
from aiocmdpool.live.wiring import ALL


class ProcessPoolBackend:
    """A `ProcessPool` as a backend: its workers start on first use, and end with the backend.

    Args:
        workers: Number of workers. `None`: the number of CPUs this process may use.
        niceness: Number to add to the niceness of this process, for the workers and their commands.
        recycle_after, max_worker_memory, hang_after: Conditions for replacing a worker; see `ProcessPool`.
        max_output_total: Bytes of captured output that are held at once; see `ProcessPool`.
        python: Path of the Python that runs the workers; see `ProcessPool`.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        niceness: int = 0,
        recycle_after: int | None = None,
        max_worker_memory: int | None = None,
        hang_after: float = DEFAULT_HANG_AFTER,
        max_output_total: validate.ByteBudget = "auto",
        python: StrOrBytesPath | None = None,
    ) -> None:
        self.pool = ProcessPool(
            workers,
            niceness=niceness,
            recycle_after=recycle_after,
            max_worker_memory=max_worker_memory,
            hang_after=hang_after,
            max_output_total=max_output_total,
            python=python,
        )

    async def execute(self, command: CommandConfig, *, control: RunControl | None = None) -> CommandResult:
        """Run `command` in a worker to its end and return its result; see `ProcessPool.execute`."""
        return await self.pool.execute(command, control=control)

    def open(
        self, command: CommandConfig, *, streams: Collection[str] = ALL, pty: bool | WindowSize = False
    ) -> AbstractAsyncContextManager[LiveProcess]:
        """Start a program in a worker and talk to it; see `ProcessPool.open`."""
        return self.pool.open(command, streams=streams, pty=pty)

    async def aclose(self) -> None:
        """End all running commands and the workers, and wait for both."""
        await self.pool.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.pool.__aexit__(kind, error, traceback)

    def __repr__(self) -> str:
        return f"<ProcessPoolBackend {self.pool!r}>"
