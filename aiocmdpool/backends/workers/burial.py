"""`Burial`: what follows the loss of a worker, from the kill to the last answer."""

import asyncio
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from aiocmdpool.backends.workers.leftovers import KILL_TIMEOUT
from aiocmdpool.backends.workers.pending import Pending, RequestNotSent
from aiocmdpool.backends.workers.process import WorkerProgram
from aiocmdpool.commands.errors import WorkerLost
from aiocmdpool.commands.result import KillTier
from aiocmdpool.loops.threads import in_thread
from aiocmdpool.standalone.kernel import cgroup

if TYPE_CHECKING:
    from aiocmdpool.backends.workers.worker import Worker

STARVED_LOOKS = 5  # at a killed worker that still waits for CPU time to die, `KILL_TIMEOUT` apart


class Burial:
    """Kills a lost worker, then what it has left behind, and answers its requests with errors.

    Args:
        worker: The worker, whose loss has a reason by now.
        loop: Its event loop.
        program: Its process.
        pending: Its requests without an answer, by id.
        over: Called at the end of all this.
    """

    def __init__(
        self,
        worker: "Worker",
        loop: asyncio.AbstractEventLoop,
        program: WorkerProgram,
        pending: Mapping[int, Pending],
        over: Callable[[], None],
    ) -> None:
        self._worker = worker
        self._loop = loop
        self._program = program
        self._pending = pending
        self._over = over
        self._unsent = program.connection.unsent()
        self._last_wait: asyncio.TimerHandle | None = None  # ends the wait for the death of the killed worker
        self._task: asyncio.Task[None] | None = None

    def kill(self) -> None:
        """Kill the worker; if it does not die, its commands fail all the same."""
        self._program.connection.close()
        self._program.kill()
        self._last_wait = self._loop.call_later(KILL_TIMEOUT, self._write_off)

    def _write_off(self, looks: int = STARVED_LOOKS) -> None:
        """Fail the commands of a killed worker that does not die. It is given time while it waits for the CPU."""
        if looks and self._program.is_runnable():
            self._last_wait = self._loop.call_later(KILL_TIMEOUT, self._write_off, looks - 1)
            return
        held = self._program.write_off()
        if held:
            self._worker.lost_because = f"{self._worker.lost_because}; {held}"

    def begin(self) -> None:
        """Begin with what follows, because the worker is dead or written off."""
        if self._last_wait is not None:
            self._last_wait.cancel()
        self._task = self._loop.create_task(self._bury(), name=f"aiocmdpool-bury-{self._worker.pid}")

    async def _bury(self) -> None:
        """Kill what the dead worker has left behind, then answer its requests with errors."""
        worker, tier = self._worker, None
        try:
            if (self._pending and not worker.has_left_idle) or not cgroup.remove(self._program.group):
                leaders = [entry.started_pid for entry in self._pending.values() if entry.started_pid]
                tier = await self._sweep(leaders)
        finally:
            self._program.close()
            self._program.page.close()
            cause = worker.cause_of_death()
            for number, entry in self._pending.items():
                if number in self._unsent or not worker.ready or worker.has_left_idle:
                    entry.resolve(RequestNotSent())
                elif entry.answer is None:
                    entry.resolve(
                        WorkerLost(
                            f"{entry.command.display()}: its worker (pid {worker.pid}) was lost: {cause}; the command "
                            "may have run, and what was left of it has been killed",
                            command=entry.command,
                            killed_by=tier,
                        )
                    )
            self._over()

    async def _sweep(self, leaders: list[int]) -> KillTier | None:
        """Kill what the worker has left, in a thread of our own, because callers may hold all threads of anyio."""
        try:
            return await in_thread(functools.partial(self._program.handles.sweep, leaders))
        except RuntimeError:  # no more threads in this process: blocking the loop is better than leaving processes
            return self._program.handles.sweep(leaders)
