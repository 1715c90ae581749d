"""`ProcessPool`: a few resident workers, each of which runs many commands at once.

    execute ── least-loaded worker ── START frame ── … ── EXIT frame ── result
                     ▲
    a worker is lost, or recycled ── respawn, with back-off if it keeps dying

The loop of this process never starts a program: that is done by the workers, small processes for which it is cheap.
"""

import asyncio
import logging
import os
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

import anyio.to_thread

from aiocmdpool.asyncio_api.api import AsyncioSubprocesses
from aiocmdpool.backends.workers.leftovers import Unclosed
from aiocmdpool.backends.workers.pending import RequestNotSent, WorkerUnfit
from aiocmdpool.backends.workers.statistics import ProcessPoolStatistics as ProcessPoolStatistics  # offered here, too
from aiocmdpool.backends.workers.worker import Worker
from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ExecuteError, PoolClosed, TaskCancelled, WorkerLost
from aiocmdpool.commands.outcome import settle
from aiocmdpool.commands.result import CommandResult, EndReason
from aiocmdpool.commands.run_control import Place, RunControl
from aiocmdpool.live.process import LiveProcess, open_process
from aiocmdpool.live.terminal import WindowSize
from aiocmdpool.live.wiring import ALL
from aiocmdpool.loops.waiting import wait_through
from aiocmdpool.standalone.wire import messages
from aiocmdpool.system.cpus import cpu_count

BACK_OFF = 0.1  # seconds before a worker that died early is replaced; doubles each time
BACK_OFF_LIMIT = 1.0  # seconds; for so long, at most, a command waits for a worker only to hear that there is none
GIVE_UP_AFTER = 3  # workers in a row that died before they were ready
LOST_WITH_ONE_COMMAND = 3  # workers; an idempotent command that took so many along is what kills them
LOOK_AT_MEMORY_EVERY = 100  # commands
PAGE = os.sysconf("SC_PAGE_SIZE")

_log = logging.getLogger("aiocmdpool.process_pool")


class ProcessPool(AsyncioSubprocesses):
    """Resident workers that start the commands, so that the loop never does.

    Workers start on first use, or on entering `async with`. Any number of commands may be in flight; a `CommandPool` in
    front bounds them. Concurrency: belongs to one loop.

    Args:
        workers: How many. `None`: the number of CPUs this process may use.
        niceness: Added to that of this process for the workers, and inherited by what they start. With 10, a loop that
            shares its core with them is not held up by them.
        recycle_after: Commands after which a worker is replaced. `None`: never.
        max_worker_memory: Resident bytes above which a worker is replaced, looked at now and then. `None`: never.
        hang_after: Seconds without a sign of life after which a worker with work counts as hung.

    Example:
        >>> async with ProcessPool(workers=2) as pool:
        ...     result = await pool.execute(CommandConfig("echo", ["hello"]))
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        niceness: int = 0,
        recycle_after: int | None = None,
        max_worker_memory: int | None = None,
        hang_after: float = 5.0,
    ) -> None:
        self._size = validate.whole_number(1, optional=True)("workers", workers) or cpu_count()
        self._niceness = validate.whole_number(-40, 40)("niceness", niceness)
        self._recycle_after = validate.whole_number(1, optional=True)("recycle_after", recycle_after)
        self._max_worker_memory = validate.whole_number(1, optional=True)("max_worker_memory", max_worker_memory)
        self._hang_after = validate.seconds("hang_after", hang_after) or 5.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._workers: list[Worker] = []  # those that take commands
        self._leaving: set[Worker] = set()  # those that finish what they have
        self._waiters: list[asyncio.Future[None]] = []  # for a worker
        self._respawn: asyncio.TimerHandle | None = None
        self._closers: set[asyncio.Task[object]] = set()
        self._failures = 0
        self._lost = self._recycled = self._completed = 0
        self._last_failure = ""
        self._recycling = recycle_after is not None or max_worker_memory is not None
        self._closed = False
        self._unclosed = Unclosed(self)

    @property
    def size(self) -> int:
        """How many workers there are to be."""
        return self._size

    async def start(self) -> None:
        """Start the workers now rather than on first use."""
        self._check()
        self._choose()

    async def execute(self, command: CommandConfig, *, control: RunControl | None = None) -> CommandResult:
        """Run one command in the least loaded worker; the contract is that of `CommandExecutor.execute`.

        Raises:
            WorkerLost: Its worker died or hung, and the command may have run; or no worker can be started. A command
                that says `idempotent` is run again instead, as is one that had not left this process.
            TaskCancelled: The pool was closed meanwhile.
            PoolClosed: The pool was closed before.
            ExecuteError: See `CommandExecutor.execute`.
        """
        self._check(command)
        attempts, failures, unfit_before = 0, self._failures, False
        while True:
            if self._closed:
                message = f"{command.display()}: the process pool was closed before it started"
                raise TaskCancelled(message, command=command, end_reason=EndReason.CLOSED)
            worker = self._choose(None if control is None else control.place)
            if worker is None:
                await self._worker_started(command, failures)
                continue
            try:
                result = await worker.execute(command, control)
            except RequestNotSent:
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
                if self._recycling:
                    self._maybe_recycle(worker)
            return settle(result)

    def open(
        self, command: CommandConfig, *, streams: Collection[str] = ALL, pty: bool | WindowSize = False
    ) -> AbstractAsyncContextManager[LiveProcess]:
        """Start a program in a worker and talk to it; see `live.process.open_process`. The worker is not in between."""
        return open_process(self, command, streams=streams, pty=pty)

    def statistics(self) -> ProcessPoolStatistics:
        """A snapshot of the counters."""
        return ProcessPoolStatistics(
            workers=len(self._workers),
            wanted=self._size,
            in_flight=sum(worker.in_flight for worker in (*self._workers, *self._leaving)),
            completed=self._completed,
            lost=self._lost,
            recycled=self._recycled,
            failures=self._failures,
            pids=tuple(worker.pid for worker in self._workers),
        )

    # -- workers ----------------------------------------------------------------------------------------------------

    def _choose(self, place: Place | None = None) -> Worker | None:
        """The least loaded worker, or that of the first run in a place; `None` if there is none now."""
        if place is not None and isinstance(place.chosen, Worker) and place.chosen.usable:
            return place.chosen
        if len(self._workers) < self._size and self._respawn is None:
            self._fill_up()
        best = None
        for worker in self._workers:
            if worker.usable and (best is None or worker.in_flight < best.in_flight):
                best = worker
        if place is not None:
            place.chosen = best
        return best

    def _fill_up(self) -> None:
        self._respawn = None
        while not self._closed and len(self._workers) < self._size:
            try:
                self._start_worker()
            except WorkerLost as error:
                self._note_failure(str(error))
                return
        self._wake()

    def _start_worker(self) -> None:
        worker = Worker(self._niceness, self._hang_after, self._on_gone, self._replace_unfit)
        self._workers.append(worker)
        self._unclosed.workers.add(worker.remains)

    def _on_gone(self, worker: Worker) -> None:
        """A worker is dead and what it ran is settled."""
        self._unclosed.workers.discard(worker.remains)
        self._leaving.discard(worker)
        if worker not in self._workers:
            return
        self._workers.remove(worker)
        if self._closed:
            return
        self._lost += 1
        facts = {"worker_pid": worker.pid, "completed": worker.completed}
        _log.warning("worker %d was lost: %s", worker.pid, worker.cause_of_death(), extra=facts)
        if worker.proven:
            self._failures = 0
            self._fill_up()
        else:
            self._note_failure(f"worker {worker.pid} died early: {worker.cause_of_death()}")

    def _note_failure(self, why: str) -> None:
        self._failures += 1
        self._last_failure = why
        if self._respawn is not None:
            self._respawn.cancel()
        delay = min(BACK_OFF * 2 ** (self._failures - 1), BACK_OFF_LIMIT)
        self._respawn = asyncio.get_running_loop().call_later(delay, self._fill_up)
        _log.warning("the next worker is started in %g s: %s", delay, why, extra={"failures": self._failures})
        if self._failures >= GIVE_UP_AFTER:
            self._wake()

    async def _worker_started(self, command: CommandConfig, failures: int) -> None:
        """Wait until there may be a worker.

        Args:
            failures: How many there had been when the command came. Each is worth another try: what was wrong may have
                passed since.

        Raises:
            WorkerLost: One after the other dies early.
        """
        if self._failures >= max(GIVE_UP_AFTER, failures + 1):
            message = f"{command.display()}: no worker can be started ({self._failures} in a row): {self._last_failure}"
            raise WorkerLost(message, command=command)
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _maybe_recycle(self, worker: Worker) -> None:
        """Replace a worker that has done enough, or has grown too large; it finishes what it has."""
        if self._closed or worker not in self._workers or not worker.usable:
            return
        old = self._recycle_after is not None and worker.completed + worker.in_flight >= self._recycle_after
        large = (
            self._max_worker_memory is not None
            and worker.completed % LOOK_AT_MEMORY_EVERY == 0
            and resident_memory(worker.pid) > self._max_worker_memory
        )
        if old or large:
            self._let_go(worker, *((logging.WARNING, "its memory") if large else (logging.INFO, "its age")))
            self._fill_up()

    def _replace_unfit(self, worker: Worker, why: str) -> bool:
        """Replace a worker that has lost what it needs, if another one can be started; whether that was so."""
        if self._closed or worker not in self._workers:
            return False
        try:
            self._start_worker()
        except WorkerLost as error:  # better a bad one than none
            _log.warning("worker %d is kept, although %s: %s", worker.pid, why, error, extra={"worker_pid": worker.pid})
            return False
        self._let_go(worker, logging.WARNING, why)
        return True

    def _let_go(self, worker: Worker, level: int, why: str) -> None:
        """Give a worker no more commands; it finishes what it has."""
        self._recycled += 1
        facts = {"worker_pid": worker.pid, "completed": worker.completed}
        _log.log(level, "worker %d is replaced: %s", worker.pid, why, extra=facts)
        self._workers.remove(worker)
        self._leaving.add(worker)
        closer = asyncio.get_running_loop().create_task(worker.aclose(), name=f"aiocmdpool-recycle-{worker.pid}")
        self._closers.add(closer)
        closer.add_done_callback(self._closers.discard)

    # -- lifecycle --------------------------------------------------------------------------------------------------

    async def aclose(self, *, drain: bool = False) -> None:
        """End the workers, and return when they are gone. Harmless when repeated.

        Args:
            drain: Let what is in flight come to its end, rather than ending it (its callers get `TaskCancelled`).

        Cancellation: ends what is in flight, and leaves when that is done.

        Raises:
            ExecuteError: The pool belongs to another loop that is still there, or to the parent of this process.
        """
        if self._loop is not None and not self._loop.is_closed():
            self._check_owner()
        self._closed = True
        if self._loop is not None and self._loop.is_closed():  # nobody is left to tell
            self._workers.clear()
            self._leaving.clear()
            await anyio.to_thread.run_sync(self._unclosed.end, limiter=anyio.CapacityLimiter(1))
            return
        if self._respawn is not None:
            self._respawn.cancel()
        self._wake()
        if not drain:
            self._end_all()
        workers = [*self._workers, *self._leaving]
        if workers:
            closing = asyncio.gather(*(worker.aclose() for worker in workers))
            cancelled = await wait_through(closing, on_cancel=self._end_all)
            if cancelled is not None:
                raise cancelled

    def _end_all(self) -> None:
        for worker in (*self._workers, *self._leaving):
            worker.end_all(messages.CLOSED)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _check(self, command: CommandConfig | None = None) -> None:
        if self._closed:
            raise PoolClosed("this process pool is closed; make a new one", command=command)
        if self._loop is None:
            self._loop, self._pid = asyncio.get_running_loop(), os.getpid()
        self._check_owner(command)

    def _check_owner(self, command: CommandConfig | None = None) -> None:
        if asyncio.get_running_loop() is not self._loop:
            message = (
                "this process pool belongs to another event loop; make one for each, and close it where it is used"
            )
            raise ExecuteError(message, command=command)
        if os.getpid() != self._pid:
            message = "this process pool belongs to the parent of this forked process; make a new one here"
            raise ExecuteError(message, command=command)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        now = self.statistics()
        return f"<ProcessPool {state}, {now.workers} of {self._size} workers, {now.in_flight} in flight>"


def resident_memory(pid: int) -> int:
    """Resident bytes of a process; 0 where that cannot be seen."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * PAGE
    except OSError:
        return 0
