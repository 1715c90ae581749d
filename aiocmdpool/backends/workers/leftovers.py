"""Ends workers without their event loop: if it is closed, if a worker has died, or if the host exits."""

import atexit
import contextlib
import os
import signal
import socket
import threading
import time
import warnings
import weakref
from collections.abc import Iterable

from aiocmdpool.backends.workers.private import keep_out_of, keep_private
from aiocmdpool.commands.result import KillTier
from aiocmdpool.standalone.kernel import cgroup
from aiocmdpool.standalone.kernel import processes as procs
from aiocmdpool.system.hunt import is_marked, round_up
from aiocmdpool.system.reaping import reap_later, try_reap

LEAVE_TIMEOUT = 2.0  # seconds for a worker to exit after its pipes are closed; it ends its programs in less than one
KILL_TIMEOUT = 2.0  # seconds for a killed worker to die; after that, the kernel or a tracer holds it


class WorkerHandles:
    """The process and descriptors of one started worker, which outlive the objects that use them.

    Args:
        pid: Process id of the worker.
        cookie: Mark in the environment of everything that it starts.
        group: The directory of its control group, or empty.
        descriptors: Pipes and other descriptors of this process that belong to it; -1 for none.
        passing: The socket to it.
    """

    def __init__(self, pid: int, cookie: str, group: str, descriptors: list[int], passing: socket.socket) -> None:
        self.pid = pid
        self.cookie = os.fsencode(cookie)
        self.group = group
        self._descriptors = set(descriptors) - {-1}
        self._passing = passing
        self._left_alone: set[tuple[int, int]] = set()  # pids and start times
        keep_private(self)
        keep_out_of(self)

    def private(self) -> Iterable[int]:
        """Return the open descriptors that no program may get, for `keep_private`."""
        return (*self._descriptors, self._passing.fileno())

    def add(self, fd: int) -> None:
        """Add a descriptor that belongs to the worker; -1 for none."""
        self._descriptors |= {fd} - {-1}

    def close(self, fd: int) -> None:
        """Close the descriptor `fd` of the worker."""
        self._descriptors.remove(fd)
        os.close(fd)

    def close_in_fork(self) -> None:
        """Close all descriptors in this forked child: the worker belongs to the parent."""
        while self._descriptors:
            os.close(self._descriptors.pop())
        os.close(self._passing.detach())

    def is_dead(self) -> bool:
        """Return whether the worker has exited, reaped or not."""
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def detach_socket(self) -> None:
        """Detach the socket while this process exits, so that it adds no ResourceWarning of its own."""
        self._passing.detach()

    def end(self) -> None:
        """Close all connections to the worker and wait for its exit; kill it if it does not exit in time. Blocks."""
        while self._descriptors:
            os.close(self._descriptors.pop())
        self._passing.close()
        try:
            if not self._leaves_within(LEAVE_TIMEOUT):
                with contextlib.suppress(PermissionError):  # this process was root when it started the worker
                    os.kill(self.pid, signal.SIGKILL)
                if not self._leaves_within(KILL_TIMEOUT):
                    self.outlived()
        except (ChildProcessError, ProcessLookupError):  # other code in this process has reaped it: it is gone
            pass
        self.sweep([])

    def _leaves_within(self, seconds: float) -> bool:
        """Reap the worker within `seconds`; return whether that worked. Blocks."""
        deadline = time.monotonic() + seconds
        while try_reap(self.pid) is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def outlived(self) -> None:
        """Sweep and reap the worker later, because it does not die, or a tracer holds it."""
        reap_later(self.pid, lambda: self.sweep([]))

    def leave_alone(self, pid: int) -> int | None:
        """Spare what is below the shim `pid` of a detached command; return its start time, or `None` if it is gone."""
        shim = procs.look_at(pid)
        if shim is None:
            return None
        self._left_alone = {key for key in self._left_alone if procs.is_alive(*key)} | {(pid, shim.started)}
        return shim.started

    def sweep(self, leaders: list[int]) -> KillTier | None:
        """Kill everything that the dead worker has left behind, and return the kill tier. Blocks.

        Args:
            leaders: Pids of the programs that are known to have run.
        """
        tier = None
        if self.group and not cgroup.remove(self.group) and cgroup.kill(self.group):
            tier = KillTier.CGROUP
        # The session's number cannot be given to another process while a member lives; once all are gone, it can.
        session = self.pid if procs.look_at(self.pid) is None else -1

        def belongs(process: procs.Process) -> bool | None:
            if process.session == session or process.group in leaders:
                return True
            # By the cookie alone: a process that has forged the rest of its mark must not escape.
            return is_marked(process.pid, lambda mark: mark.startswith(self.cookie))

        if round_up(belongs, lambda process: (process.pid, process.started) in self._left_alone):
            tier = tier or KillTier.DESCENDANTS
        return tier


class UnclosedPools:
    """The workers of one pool that have not been closed; ends them when the pool is garbage collected.

    This never happens before its loop is closed: as long as the loop reads from a worker, it keeps the pool alive. When
    this process exits, a warning is all that is left to do: the workers notice the exit, and end what they run.

    Args:
        owner: Object that holds the workers; it is collected no sooner than the pool.
        name: Name of the pool's class for the warning; empty for no warning.
    """

    def __init__(self, owner: object, name: str) -> None:
        self.workers: set[WorkerHandles] = set()
        self._name = name
        self._host = os.getpid()
        self._warned = False
        _all_unclosed.add(self)
        weakref.finalize(owner, self._owner_collected).atexit = False

    def _owner_collected(self) -> None:
        """End the workers in a thread, and warn about the unclosed pool, because it was garbage collected."""
        text = self.warning()
        if text is not None:
            thread = threading.Thread(target=self.end, name="aiocmdpool-unclosed-workers", daemon=True)
            with contextlib.suppress(RuntimeError):  # no new threads, because this process exits
                thread.start()
            warnings.warn(text, ResourceWarning, stacklevel=2)  # may raise

    def warning(self) -> str | None:
        """Return the text of a warning about unclosed workers, once; `None` if there is nothing to warn of.

        In a forked child there is not: the workers are the parent's.
        """
        if not self.workers or not self._name or self._warned or os.getpid() != self._host:
            return None
        self._warned = True
        count = len(self.workers)
        return f"a {self._name} with {count} running workers was not closed; use `async with`, or await its aclose()"

    def end(self) -> None:
        """End all unclosed workers, one after the other. Blocks."""
        while self.workers:
            self.workers.pop().end()


_all_unclosed: weakref.WeakSet[UnclosedPools] = weakref.WeakSet()


@atexit.register
def _warn_at_exit() -> None:
    texts = []
    for each in list(_all_unclosed):
        texts.append(each.warning())
        for handles in list(each.workers):
            handles.detach_socket()
    with contextlib.ExitStack() as warned:  # each warning may raise, and the others are still to be given
        for text in filter(None, reversed(texts)):
            warned.callback(warnings.warn, text, ResourceWarning, stacklevel=2)
