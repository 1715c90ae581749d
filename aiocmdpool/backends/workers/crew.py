"""`Crew`: the set of workers of a pool; started, replaced when they die, retired when they have done enough.

choose ── the least loaded of `workers`
a worker dies ────────────── started anew, with back-off if it keeps dying
a worker is recycled ──────── moves to `leaving`: it finishes what it has, and a new one is started
this process has changed ──── all of them do: user, umask, limits and the like are those of a worker's start
the guardian dies ─────────── one of them does: a new worker brings another
"""

import asyncio
import contextlib
import logging
import os

from aiocmdpool.backends.workers.guardian import Guardian
from aiocmdpool.backends.workers.ledger import Ledger
from aiocmdpool.backends.workers.leftovers import UnclosedPools
from aiocmdpool.backends.workers.worker import Worker
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import WorkerLost
from aiocmdpool.commands.run_control import SameWorker
from aiocmdpool.system import interpreter
from aiocmdpool.system.identity import Identity
from aiocmdpool.system.safe_log import SafeLog
from aiocmdpool.system.worker_python import WorkerPython

BACK_OFF = 0.1  # seconds before a worker that died early is replaced; doubles each time
BACK_OFF_LIMIT = 1.0  # seconds; so a command does not wait longer than this to learn that no worker can be started
GUARDIAN_AFTER = 0.1  # seconds before a dead guardian is replaced; doubles each time
GUARDIAN_AFTER_LIMIT = 30.0  # seconds
GIVE_UP_AFTER = 3  # workers in a row that died before they were ready
LOOK_AT_MEMORY_EVERY = 100  # commands of a worker between two checks of its memory
CHANGED = (
    "; this process has changed its user, root directory or limits since the pool was started, and workers need a "
    "Python that they may run there"
)
PAGE = os.sysconf("SC_PAGE_SIZE")

_log = SafeLog("aiocmdpool.process_pool")


class Crew:
    """The workers of one pool. Belongs to one event loop.

    Args:
        size: Wanted number of workers.
        niceness: Number to add to the niceness of this process, for the workers.
        recycle_after: Commands after which a worker is replaced; `None` for never.
        max_worker_memory: Resident bytes above which a worker is replaced; `None` for never.
        hang_after: Seconds without a sign of life after which a worker with work counts as hung.
        ledger: The pool's budget for output.
        idle_for: Seconds without a command after which a worker exits, until one is needed again; 0 for never. Such a
            crew need not be closed by anybody, so there is no warning if it is not.
        python: Path of the Python that runs the workers; see `interpreter.find`.
    """

    def __init__(
        self,
        size: int,
        niceness: int,
        recycle_after: int | None,
        max_worker_memory: int | None,
        hang_after: float,
        ledger: Ledger,
        idle_for: float = 0,
        python: str | None = None,
    ) -> None:
        self.size = size
        self.workers: list[Worker] = []
        """Workers of the pool that take commands."""
        self.leaving: set[Worker] = set()
        """Workers that only finish the commands they have."""
        self.failures = self.lost = self.recycled = 0
        self.recycles = recycle_after is not None or max_worker_memory is not None
        """Whether `maybe_recycle` has to be called after each command."""
        self.unclosed = UnclosedPools(self, "" if idle_for else "ProcessPool")
        self._idle_for = idle_for
        self._python = WorkerPython(python)
        self._tries_python = False  # a thread is trying it
        self._identity = Identity()
        """Identity of this process (user, umask, limits, …) at the start of all `workers`."""
        self._has_followed = False
        self._guardian = Guardian(self._on_guardian_gone, size - 1)
        """Guardian that all of `workers` share."""
        self._guardian_after = GUARDIAN_AFTER
        self._new_guardian: asyncio.TimerHandle | None = None
        self._niceness = niceness
        self._recycle_after = recycle_after
        self._max_worker_memory = max_worker_memory
        self._hang_after = hang_after
        self._ledger = ledger
        self._waiters: list[asyncio.Future[None]] = []  # futures of commands that wait for a worker
        self._respawn: asyncio.TimerHandle | None = None
        self._closers: set[asyncio.Task[object]] = set()
        self._last_failure = ""
        self._closed = False

    def choose(self, same_worker: SameWorker | None = None) -> Worker | None:
        """Return the least loaded worker, or the one that `same_worker` is bound to; `None` if there is none now."""
        if same_worker is not None and isinstance(same_worker.chosen, Worker) and same_worker.chosen.usable:
            return same_worker.chosen
        if len(self.workers) < self.size and self._respawn is None and not self._tries_python:
            self._fill_up()
        best = self._least_loaded()
        if best is not None and self._identity.has_changed(
            quick_look=best.sends_in_this_turn, whole_look=not best.in_flight and self._is_idle
        ):
            self._follow()
            if self._respawn is None and not self._tries_python:
                self._fill_up()
            best = self._least_loaded()
        if same_worker is not None:
            same_worker.chosen = best
        return best

    @property
    def _is_idle(self) -> bool:
        return not any(worker.in_flight for worker in self.workers)

    def _least_loaded(self) -> Worker | None:
        best = None
        for worker in self.workers:
            if worker.usable and (best is None or worker.in_flight < best.in_flight):
                best = worker
        return best

    async def worker_started(self, command: CommandConfig, failures: int) -> None:
        """Wait until a worker may have been started.

        Args:
            command: The waiting command, for the message.
            failures: Number of failures in a row when the command came. Each command is worth another try, because the
                cause may have passed since.

        Raises:
            WorkerLost: Workers die early, one after the other.
        """
        if self.failures >= max(GIVE_UP_AFTER, failures + 1):
            message = f"{command.display()}: no worker can be started ({self.failures} in a row): {self._last_failure}"
            raise WorkerLost(message, command=command, may_have_run=False)
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def close(self) -> None:
        """Start no more workers, and wake all commands that wait for one. Harmless when repeated."""
        self._closed = True
        for timer in (self._respawn, self._new_guardian):
            if timer is not None:
                timer.cancel()
        self._guardian.retire()
        self._python.close()
        self._wake()

    @property
    def is_at_rest(self) -> bool:
        """Return whether no worker has work, is starting or is leaving."""
        busy = self._closed or self.leaving or self._closers or self._tries_python
        return not busy and all(worker.is_at_rest for worker in self.workers)

    @property
    def has_dead(self) -> bool:
        """Return whether a worker has exited or died without the loop having noticed."""
        return any(worker.handles.is_dead() for worker in self.workers)

    def move(self, loop: asyncio.AbstractEventLoop) -> None:
        """Move the idle crew to another loop; its own is closed or stands still, and nobody waits for a worker."""
        for timer in (self._respawn, self._new_guardian):
            if timer is not None:
                timer.cancel()
        self._respawn = self._new_guardian = None
        self._waiters.clear()  # all that are left are of cancelled callers
        self._guardian.move(loop)
        for worker in self.workers:
            worker.move(loop)

    def close_in_fork(self) -> None:
        """Give the workers up in this forked child, without disturbing the parent, to which they belong."""
        for worker in (*self.workers, *self.leaving):
            worker.close_in_fork()
        for handles in self.unclosed.workers:
            handles.close_in_fork()
        for guardian in {self._guardian, *(worker.guardian for worker in (*self.workers, *self.leaving))}:
            guardian.close_in_fork()
        self._python.close()

    def abandon(self) -> None:
        """End all workers in this thread, because their loop is closed and nobody waits for them. Blocks."""
        guardians = {self._guardian, *(worker.guardian for worker in (*self.workers, *self.leaving))}
        self.workers.clear()
        self.leaving.clear()
        self.unclosed.end()
        for guardian in guardians:
            guardian.abandon()
        self._python.close()

    # -- started and replaced ---------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Retire all workers, because the identity of this process differs from that at their start."""
        had_workers = bool(self.workers)
        self._has_followed = self._has_followed or had_workers
        for worker in list(self.workers):
            self._retire(worker)
        self._guardian.retire()
        self._identity, self._guardian = Identity(), Guardian(self._on_guardian_gone, self.size - 1)
        if had_workers:
            _log.info("user, umask, limits or the like of this process have changed: all workers are replaced")

    def _try_python(self) -> bool:
        """Let a thread try the interpreter, which may block, and start workers then; return whether one does."""
        loop = asyncio.get_running_loop()

        def start_workers() -> None:
            self._tries_python = False
            self._fill_up(tried=True)  # whether an interpreter was found or not

        def tried() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(start_workers)

        self._tries_python = interpreter.find_soon(self._python.setting, tried)
        return self._tries_python

    def _fill_up(self, tried: bool = False) -> None:
        self._respawn = None
        if not (tried or self._closed) and interpreter.known(self._python.setting) is None and self._try_python():
            return
        if self._identity.has_changed(whole_look=True):
            self._follow()
        while not self._closed and len(self.workers) < self.size:
            try:
                self._start_worker()
            except WorkerLost as error:
                self._note_failure(f"{error}{CHANGED if self._has_followed else ''}")
                return
        self._wake()

    def _start_worker(self) -> None:
        assert self._guardian is not None
        worker = Worker(
            self._niceness,
            self._ledger,
            self._hang_after,
            self._on_gone,
            self._guardian,
            self._replace_unfit,
            self._idle_for,
            self._python,
        )
        self.workers.append(worker)
        self.unclosed.workers.add(worker.handles)

    def _on_gone(self, worker: Worker) -> None:
        """Replace a worker that is dead and whose requests are all answered."""
        worker.guardian.gone(worker.pid)
        self.unclosed.workers.discard(worker.handles)
        self.leaving.discard(worker)
        if worker not in self.workers:
            return
        self.workers.remove(worker)
        if self._closed:
            return
        if worker.has_left_idle:
            if self._new_guardian is not None:
                self._new_guardian.cancel()
            self._guardian.retire()  # it has been asked to exit, too
            self._guardian = Guardian(self._on_guardian_gone, self.size - 1)
            self._wake()
            return
        self.lost += 1
        cause = worker.cause_of_death()
        facts = {"worker_pid": worker.pid, "completed": worker.completed}
        try:
            _log.warning("worker %d was lost: %s", worker.pid, cause, extra=facts)
        finally:  # even if logging raises
            if worker.proven:
                self.failures = 0
                self._fill_up()
            else:
                self._note_failure(f"worker {worker.pid} died early: {cause}")

    def _note_failure(self, why: str) -> None:
        self.failures += 1
        self._last_failure = why
        if self._respawn is not None:
            self._respawn.cancel()
        delay = min(BACK_OFF * 2 ** (self.failures - 1), BACK_OFF_LIMIT)
        self._respawn = asyncio.get_running_loop().call_later(delay, self._fill_up)
        if self.failures >= GIVE_UP_AFTER:
            self._wake()
        _log.warning("the next worker is started in %g s: %s", delay, why, extra={"failures": self.failures})

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _on_guardian_gone(self) -> None:
        """Schedule the start of a new worker that starts another guardian."""
        if self._new_guardian is not None:
            self._new_guardian.cancel()
        self._new_guardian = asyncio.get_running_loop().call_later(self._guardian_after, self._bring_guardian)
        self._guardian_after = min(2 * self._guardian_after, GUARDIAN_AFTER_LIMIT)

    def _bring_guardian(self) -> None:
        self._new_guardian = None
        if not self._guardian.is_missing or len(self.workers) < self.size:
            return  # the workers that are still to be started will start it
        self._retire(min(self.workers, key=lambda worker: worker.in_flight))
        self._fill_up()
        _log.warning("the guardian of the workers was lost: a worker is replaced to bring another")

    # -- retired ----------------------------------------------------------------------------------------------------

    def maybe_recycle(self, worker: Worker) -> None:
        """Replace a worker that has run enough commands or has grown too large; it finishes the commands it has."""
        if self._closed or worker not in self.workers or not worker.usable:
            return
        old = self._recycle_after is not None and worker.completed + worker.in_flight >= self._recycle_after
        large = (
            self._max_worker_memory is not None
            and worker.completed % LOOK_AT_MEMORY_EVERY == 0
            and resident_memory(worker.pid) > self._max_worker_memory
        )
        if old or large:
            self._replace(worker, *((logging.WARNING, "its memory") if large else (logging.INFO, "its age")))
            self._fill_up()

    def _replace_unfit(self, worker: Worker, why: str) -> bool:
        """Replace a worker that is unfit because of `why` if another one can be started; return whether it was."""
        if self._closed or worker not in self.workers:
            return False
        try:
            self._start_worker()
        except WorkerLost as error:  # a bad worker is better than none
            _log.warning("worker %d is kept, although %s: %s", worker.pid, why, error, extra={"worker_pid": worker.pid})
            return False
        self._replace(worker, logging.WARNING, why)
        self._wake()
        return True

    def _replace(self, worker: Worker, level: int, why: str) -> None:
        """Count and log the replacement of a worker, and retire it."""
        self.recycled += 1
        self._retire(worker)
        facts = {"worker_pid": worker.pid, "completed": worker.completed}
        _log.log(level, "worker %d is replaced: %s", worker.pid, why, extra=facts)

    def _retire(self, worker: Worker) -> None:
        """Give a worker no more commands, and close it when it has finished those it has."""
        self.workers.remove(worker)
        self.leaving.add(worker)
        closer = asyncio.get_running_loop().create_task(worker.aclose(), name=f"aiocmdpool-recycle-{worker.pid}")
        self._closers.add(closer)
        closer.add_done_callback(self._closers.discard)


def resident_memory(pid: int) -> int:
    """Return the resident bytes of the process `pid`; 0 if they cannot be read."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * PAGE
    except OSError:
        return 0
