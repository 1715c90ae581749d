"""`ExecutionMode.PROCESS_POOL`: commands are started by resident workers, off the loop."""

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
    """A `ProcessPool` as a backend: its workers start on first use, and end with it.

    Args:
        workers: How many. `None`: the number of CPUs this process may use.
        niceness: Added to that of this process for the workers and what they start.
        recycle_after, max_worker_memory, hang_after: When a worker is replaced; see `ProcessPool`.
        max_output_total: Bytes of captured output that are held at once; see `ProcessPool`.
        python: Which Python runs the workers; see `ProcessPool`.
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
        """Run one command in a worker; see `ProcessPool.execute`."""
        return await self.pool.execute(command, control=control)

    def open(
        self, command: CommandConfig, *, streams: Collection[str] = ALL, pty: bool | WindowSize = False
    ) -> AbstractAsyncContextManager[LiveProcess]:
        """Start a program in a worker and talk to it; see `ProcessPool.open`."""
        return self.pool.open(command, streams=streams, pty=pty)

    async def aclose(self) -> None:
        """End what is running, and the workers; wait for both."""
        await self.pool.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<ProcessPoolBackend {self.pool!r}>"
