"""`ProcessPool`: a few resident workers, each of which runs many commands at once.

    execute ── least-loaded worker ── START frame ── … ── EXIT frame ── result
                     ▲
    a worker is lost, or recycled ── respawn, with back-off if it keeps dying

The loop of this process never starts a program: the workers do, small processes for which it is cheap.
"""

import asyncio
import dataclasses
import os
import weakref
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

from aiocmdpool.asyncio_api.api import AsyncioSubprocesses
from aiocmdpool.backends.workers.crew import Crew
from aiocmdpool.backends.workers.ledger import Ledger
from aiocmdpool.backends.workers.pending import OnlyHere, RequestNotSent, WorkerUnfit
from aiocmdpool.backends.workers.statistics import ProcessPoolStatistics as ProcessPoolStatistics  # offered here, too
from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig, Stdio, StrOrBytesPath
from aiocmdpool.commands.errors import ExecuteError, PoolClosed, TaskCancelled, WorkerLost
from aiocmdpool.commands.outcome import result_or_error
from aiocmdpool.commands.pipeline import check_command
from aiocmdpool.commands.result import CommandResult, EndReason
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.live.process import LiveProcess, open_process
from aiocmdpool.live.terminal import WindowSize
from aiocmdpool.live.wiring import ALL
from aiocmdpool.loops.threads import in_thread
from aiocmdpool.loops.waiting import wait_through
from aiocmdpool.standalone.wire import messages
from aiocmdpool.standalone.worker.budget import USED_UP
from aiocmdpool.system.cpus import cpu_count

DEFAULT_HANG_AFTER = 5.0  # seconds
LOST_WITH_ONE_COMMAND = 3  # workers; an idempotent command with which that many were lost is likely to be the cause


class ProcessPool(AsyncioSubprocesses):
    """Resident workers that start the commands, so that the event loop never does.

    Workers start on first use, or on entering `async with`. Any number of commands may be in flight; a `CommandPool` in
    front bounds them. Concurrency: belongs to one loop.

    Commands run as what this process is when they are given to a worker, not as what it was when the workers started:
    when its user, groups, umask, CPUs, niceness, scheduler, capabilities or root directory have changed, the workers
    are replaced first. Resource limits, namespaces and seccomp are compared when no command runs, else every 0.05 s.

    Args:
        workers: Number of workers. `None`: the number of CPUs this process may use.
        niceness: Number to add to the niceness of this process, for the workers and their commands. With 10, they do
            not delay a loop that shares its core with them.
        recycle_after: Commands after which a worker is replaced. `None`: never.
        max_worker_memory: Resident bytes above which a worker is replaced, checked now and then. `None`: never.
        hang_after: Seconds without a sign of life after which a worker with work counts as hung.
        max_output_total: Bytes of captured output that are held at once for all commands, apart from 64 KiB a stream;
            when they are used up, commands that capture wait before they start, and one that writes more ends by its
            `output_policy`. `None`: no limit. "auto": half of the memory that is free when the workers start.
        python: Path of the Python that runs the workers. `None`: the environment variable AIOCMDPOOL_PYTHON; without it
            `sys.executable`, if that is a Python.

    Example:
        >>> async with ProcessPool(workers=2) as pool:
        ...     result = await pool.execute(CommandConfig("echo", ["hello"]))
    """

    _idle_for = 0.0  # seconds without work after which a worker exits until it is needed; 0: never

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
        self._ledger = Ledger(validate.byte_budget("max_output_total", max_output_total))
        self._waiting_for_output = self._ledger.line.waiters
        self._crew = Crew(
            size=validate.whole_number(1, optional=True)("workers", workers) or cpu_count(),
            niceness=validate.whole_number(-40, 40)("niceness", niceness),
            recycle_after=validate.whole_number(1, optional=True)("recycle_after", recycle_after),
            max_worker_memory=validate.whole_number(1, optional=True)("max_worker_memory", max_worker_memory),
            hang_after=validate.number(0, above=True)("hang_after", hang_after),
            ledger=self._ledger,
            idle_for=self._idle_for,
            python=validate.interpreter("python", python),
        )
        self._workers, self._leaving = self._crew.workers, self._crew.leaving
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._completed = 0
        self._closed = False

    @property
    def size(self) -> int:
        """Return the wanted number of workers."""
        return self._crew.size

    async def start(self) -> None:
        """Start the workers now rather than on first use."""
        self._check()
        self._crew.choose()

    async def execute(self, command: CommandConfig, *, control: RunControl | None = None) -> CommandResult:
        """Run `command` in the least loaded worker and return its result; the contract is `CommandExecutor.execute`.

        Raises:
            WorkerLost: Its worker died or hung, and the command may have run; or no worker can be started. A command
                with `idempotent` is run again instead, as is one that had not left this process.
            TaskCancelled: The pool was closed meanwhile.
            PoolClosed: The pool was closed before.
            ExecuteError: See `CommandExecutor.execute`.
        """
        if not isinstance(command, CommandConfig):  # inline, because every command passes here
            check_command(command)
        self._check(command)
        attempts, failures, unfit_before = 0, self._crew.failures, False
        if self._ledger.words[USED_UP] or self._waiting_for_output:  # inline, because every command passes here
            await self._wait_for_output_headroom(command)
        while True:
            if self._closed:
                message = f"{command.display()}: the process pool was closed before it started"
                raise TaskCancelled(message, command=command, end_reason=EndReason.CLOSED)
            worker = self._crew.choose(None if control is None else control.same_worker)
            if worker is None:
                await self._crew.worker_started(command, failures)
                continue
            if worker.congested:
                await worker.drained()
                continue  # the identity of this process may have changed meanwhile
            try:
                result = await worker.execute(command, control)
            except RequestNotSent:
                continue
            except OnlyHere as only:
                control = control or RunControl(lambda: None)
                control.here |= {only.stream}
                continue
            except WorkerUnfit as unfit:
                if unfit_before:
                    raise unfit.error from None
                unfit_before = True
                continue
            except WorkerLost:
                attempts += 1
                if command.idempotent and attempts < LOST_WITH_ONE_COMMAND:
                    continue
                raise
            finally:
                self._completed += 1
                if self._waiting_for_output:
                    self._wake_for_output()
                if self._crew.recycles:
                    self._crew.maybe_recycle(worker)
            return result_or_error(result)

    def open(
        self, command: CommandConfig, *, streams: Collection[str] = ALL, pty: bool | WindowSize = False
    ) -> AbstractAsyncContextManager[LiveProcess]:
        """Start a program in a worker and talk to it directly, not via the worker; see `live.process.open_process`."""
        return open_process(self, command, streams=streams, pty=pty)

    def statistics(self) -> ProcessPoolStatistics:
        """Return a snapshot of the counters."""
        return ProcessPoolStatistics(
            workers=len(self._workers),
            wanted=self._crew.size,
            in_flight=sum(worker.in_flight for worker in (*self._workers, *self._leaving)),
            completed=self._completed,
            lost=self._crew.lost,
            recycled=self._crew.recycled,
            failures=self._crew.failures,
            pids=tuple(worker.pid for worker in self._workers),
        )

    # -- output held ------------------------------------------------------------------------------------------------

    async def _wait_for_output_headroom(self, command: CommandConfig) -> None:
        """Wait, first come first served, until output may be held; the end of each command checks that again."""
        captures = Stdio.CAPTURE in (command.stdout, command.stderr)
        if captures and (self._waiting_for_output or not self._may_hold_output()):
            await self._ledger.line.wait()

    def _wake_for_output(self) -> None:
        if self._may_hold_output():
            self._ledger.line.wake()

    def _may_hold_output(self) -> bool:
        """Return whether some of the budget for output is left, or nothing runs that could release any."""
        return self._ledger.has_headroom() or not any(worker.in_flight for worker in (*self._workers, *self._leaving))

    # -- lifecycle --------------------------------------------------------------------------------------------------

    async def aclose(self, *, drain: bool = False) -> None:
        """End the workers, and return when they are gone. Harmless when repeated.

        Args:
            drain: Whether to let running commands come to their end; `False` ends them (their callers get
                `TaskCancelled`).

        Raises:
            ExecuteError: The pool belongs to another loop that is still there, or to the parent of this process.
        """
        if self._is_inherited or (self._loop is not None and not self._loop.is_closed()):
            self._check_owner()
        self._closed = True
        if self._loop is not None and self._loop.is_closed():  # nobody is left to notify
            await in_thread(self._crew.abandon)
            self._ledger.close()
            return
        self._crew.close()
        self._ledger.line.wake()
        if not drain:
            self._end_all()
        cancelled, workers = None, [*self._workers, *self._leaving]
        if workers:
            closing = asyncio.gather(*(worker.aclose() for worker in workers))
            cancelled = await wait_through(closing, on_cancel=self._end_all)
        self._ledger.close()
        if cancelled is not None:
            raise cancelled

    def _end_all(self) -> None:
        for worker in (*self._workers, *self._leaving):
            worker.end_all(messages.CLOSED)

    def _close_in_fork(self) -> None:
        """Give the pool up in this forked child, because it belongs to the parent."""
        self._closed = True
        self._crew.close_in_fork()
        self._ledger.close()

    @property
    def _is_inherited(self) -> bool:
        return self._pid not in (0, os.getpid())

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._is_inherited:  # a forked child that unwinds leaves the pool of its parent alone
            await self.aclose()

    def _check(self, command: CommandConfig | None = None) -> None:
        if self._closed and not self._is_inherited:
            raise PoolClosed("this process pool is closed; make a new one", command=command)
        if self._loop is None:
            self._loop, self._pid = asyncio.get_running_loop(), os.getpid()
            _bound.add(self)
        self._check_owner(command)

    def _check_owner(self, command: CommandConfig | None = None) -> None:
        if self._is_inherited:
            message = "this process pool belongs to the parent of this forked process; make a new one here"
            raise ExecuteError(message, command=command)
        if asyncio.get_running_loop() is not self._loop:
            message = (
                "this process pool belongs to another event loop; make one for each, and close it where it is used"
            )
            raise ExecuteError(message, command=command)

    def _repr_html_(self) -> str:
        from aiocmdpool.commands.html import table  # imported late: only notebooks need it

        return table(repr(self), dataclasses.asdict(self.statistics()))

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        now = self.statistics()
        return f"<ProcessPool {state}, {now.workers} of {self.size} workers, {now.in_flight} in flight>"


_bound: "weakref.WeakSet[ProcessPool]" = weakref.WeakSet()
_inherited: list[ProcessPool] = []  # never freed: their descriptors are closed, and the numbers somebody else's


def _in_fork() -> None:
    pools = [pool for pool in _bound if not pool._closed]
    for pool in pools:
        pool._close_in_fork()
    _inherited.extend(pools)
    _bound.clear()


os.register_at_fork(after_in_child=_in_fork)
