"""`ProcessPool` of the facade: blocking, for any number of threads."""

import functools
from types import TracebackType
from typing import Self

from aiocmdpool.backends.workers import process_pool
from aiocmdpool.backends.workers.process_pool import ProcessPoolStatistics
from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig, StrOrBytesPath
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.sync.binding import Binding


class ProcessPool:
    """Resident workers that start the commands; the arguments are those of `aiocmdpool.ProcessPool`.

    Workers start on first use, or on entering `with`. Concurrency: any thread may use it, several at once.

    Example:
        >>> with ProcessPool(workers=2) as pool:
        ...     result = pool.execute(CommandConfig("echo", ["hello"]))
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        niceness: int = 0,
        recycle_after: int | None = None,
        max_worker_memory: int | None = None,
        hang_after: float = process_pool.DEFAULT_HANG_AFTER,
        max_output_total: validate.ByteBudget = "auto",
        python: StrOrBytesPath | None = None,
    ) -> None:
        make = functools.partial(
            process_pool.ProcessPool,
            workers,
            niceness=niceness,
            recycle_after=recycle_after,
            max_worker_memory=max_worker_memory,
            hang_after=hang_after,
            max_output_total=max_output_total,
            python=python,
        )
        self._binding = Binding(self, make, process_pool.ProcessPool.aclose)

    @property
    def _pool(self) -> process_pool.ProcessPool:
        return self._binding.pool

    @property
    def size(self) -> int:
        """Return the wanted number of workers."""
        return self._pool.size

    def start(self) -> None:
        """Start the workers now rather than on first use."""
        self._binding.await_(lambda: self._pool.start())

    def execute(self, command: CommandConfig) -> CommandResult:
        """Run `command` in the least loaded worker and return its result; see `aiocmdpool.ProcessPool.execute`.

        Interruption: an exception that a signal handler raises here (KeyboardInterrupt, SystemExit, …) is raised when
            the command is dead and reaped.
        """
        return self._binding.await_(lambda: self._pool.execute(command))

    def statistics(self) -> ProcessPoolStatistics:
        """Return a snapshot of the counters."""
        return self._binding.read(self._pool.statistics)

    def close(self, *, drain: bool = False) -> None:
        """End the workers, and return when they are gone. Harmless when repeated.

        Args:
            drain: Whether to let running commands end by themselves; else their callers get `TaskCancelled`.
        """
        if not self._binding.is_ended:
            self._binding.await_(lambda: self._pool.aclose(drain=drain))
            self._binding.closed()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _repr_html_(self) -> str:
        return self._binding.read(self._pool._repr_html_)

    def __repr__(self) -> str:
        return repr(self._pool)
