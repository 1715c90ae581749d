"""`CommandTree`: stops and continues the processes of all commands, or kills them at once.

These are the descendants of this process except for its children, the workers. Without /proc none are found, and
nothing is done.
"""

import os
import signal
import time
from collections.abc import Iterator

from aiocmdpool.standalone.kernel import processes as procs
from aiocmdpool.standalone.kernel.roundup import Roundup

MANY = 100_000  # processes that are checked, at most
ROUNDS = 50  # searches, until no new process has been started meanwhile
STOPPING = 0.5  # seconds for processes to stop: a worker does not while a program that it starts is being loaded
LOOK_AGAIN_AFTER = 0.001  # seconds
_STOPPED = (b"T", b"t")


class CommandTree:
    """All processes that are started below this one from now on."""

    def __init__(self) -> None:
        self._others = {process.pid for process in _children()}  # children of a program that became this one by exec

    def freeze(self) -> list[procs.Process]:
        """Stop the workers, so that nothing more is started, and all commands; return the argument for `thaw`."""
        frozen: list[procs.Process] = []
        workers = self._workers()
        for worker in workers:
            _stop(worker, frozen)
        deadline = time.monotonic() + STOPPING
        while any(_is_running(worker) for worker in workers) and time.monotonic() < deadline:
            time.sleep(LOOK_AGAIN_AFTER)
        for found in self._rounds():
            for process in found:
                _stop(process, frozen)
        return frozen

    def thaw(self, frozen: list[procs.Process]) -> None:
        """Continue the processes that `freeze` has stopped, the workers last."""
        for process in reversed(frozen):
            process.signal(signal.SIGCONT)

    def kill(self, roots: list[int] | None = None) -> None:
        """Kill the commands but not the workers, which report their ends.

        All are stopped first: what a command starts between the search and its own end would be found by nobody.

        Args:
            roots: Pids of the processes to kill, with their descendants; `None` for all commands.
        """
        workers = {worker.pid for worker in self._workers()}
        roundup = Roundup(lambda process: process.parent in workers if roots is None else process.pid in roots)
        deadline = time.monotonic() + STOPPING
        while roundup.step() and time.monotonic() < deadline:
            time.sleep(LOOK_AGAIN_AFTER)
        for process in roundup.left:  # they do not hold still, or the search alone takes that long
            process.kill()

    def _workers(self) -> list[procs.Process]:
        return [child for child in _children() if child.pid not in self._others]

    def _rounds(self) -> Iterator[list[procs.Process]]:
        """Yield newly found processes below the workers, in rounds, until there are no new ones."""
        seen: set[tuple[int, int]] = set()
        for _ in range(ROUNDS):
            found = [each for worker in self._workers() for each in procs.descendants(worker.pid, MANY)]
            found = [process for process in found if (process.pid, process.started) not in seen]
            if not found:
                return
            seen.update((process.pid, process.started) for process in found)
            yield found


def _children() -> list[procs.Process]:
    return [process for process in procs.descendants(os.getpid(), MANY) if process.parent == os.getpid()]


def _is_running(process: procs.Process) -> bool:
    now = procs.look_at(process.pid)
    return now is not None and now.started == process.started and now.state not in _STOPPED


def _stop(process: procs.Process, stopped: list[procs.Process]) -> None:
    """Stop a process, unless it is stopped already for another reason."""
    if process.state not in _STOPPED and process.signal(signal.SIGSTOP):
        stopped.append(process)
