"""What is left of workers when nobody can wait for them on their loop: it is closed, or they died, or the host ends."""

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

LEAVE_TIMEOUT = 2.0  # seconds a worker has to leave once its pipes are closed; it ends its programs in less than one
KILL_TIMEOUT = 2.0  # seconds a worker has to die once it is killed; after that, the kernel or a tracer holds it


class Remains:
    """The handles of one started worker, which outlive the objects that use them.

    Args:
        pid: Of the worker.
        cookie: What marks everything it starts.
        group: The directory of its control group, or empty.
        descriptors: Pipes and the like of this process that belong to it; -1 is none.
        passing: Its socket.
    """

    def __init__(self, pid: int, cookie: str, group: str, descriptors: list[int], passing: socket.socket) -> None:
        self.pid = pid
        self.cookie = os.fsencode(cookie)
        self.group = group
        self._descriptors = set(descriptors) - {-1}
        self._passing = passing
        self._left_alone: set[tuple[int, int]] = set()  # pid and start
        keep_private(self)
        keep_out_of(self)

    def private(self) -> Iterable[int]:
        """For `keep_private`."""
        return (*self._descriptors, self._passing.fileno())

    def add(self, fd: int) -> None:
        """One more descriptor."""
        self._descriptors |= {fd} - {-1}

    def close(self, fd: int) -> None:
        """Close one of the descriptors."""
        self._descriptors.remove(fd)
        os.close(fd)

    def close_in_fork(self) -> None:
        """Hold nothing of the worker of the parent of this forked process."""
        while self._descriptors:
            os.close(self._descriptors.pop())
        os.close(self._passing.detach())

    def is_dead(self) -> bool:
        """Whether the worker has exited, reaped or not."""
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def hush(self) -> None:
        """This process ends: one complaint is enough, the socket is not to add its own."""
        self._passing.detach()

    def end(self) -> None:
        """Close what ties the worker to this process, and see it leave; kill it if it does not. Blocks."""
        while self._descriptors:
            os.close(self._descriptors.pop())
        self._passing.close()
        try:
            if not self._leaves_within(LEAVE_TIMEOUT):
                with contextlib.suppress(PermissionError):  # this process was root when it started the worker
                    os.kill(self.pid, signal.SIGKILL)
                if not self._leaves_within(KILL_TIMEOUT):
                    self.outlived()
        except (ChildProcessError, ProcessLookupError):  # somebody else reaps in here: it is gone
            pass
        self.sweep([])

    def _leaves_within(self, seconds: float) -> bool:
        """Reap the worker within so many seconds; whether that worked. Blocks."""
        deadline = time.monotonic() + seconds
        while try_reap(self.pid) is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def outlived(self) -> None:
        """The worker does not die, or is dead and held by a tracer: see to it when it lets that happen."""
        reap_later(self.pid, lambda: self.sweep([]))

    def leave_alone(self, pid: int) -> int | None:
        """Note the shim of a detached command that has left something: what is below it stays; return its start."""
        shim = procs.look_at(pid)
        if shim is None:
            return None
        self._left_alone = {key for key in self._left_alone if procs.is_alive(*key)} | {(pid, shim.started)}
        return shim.started

    def sweep(self, leaders: list[int]) -> KillTier | None:
        """Kill whatever the dead worker has left behind. Blocks.

        Args:
            leaders: The pids of programs known to have run.
        """
        tier = None
        if self.group and not cgroup.remove(self.group) and cgroup.kill(self.group):
            tier = KillTier.CGROUP
        # The number of its session is nobody else's while a member lives; if all are gone, it may be by now.
        session = self.pid if procs.look_at(self.pid) is None else -1

        def belongs(process: procs.Process) -> bool | None:
            if process.session == session or process.group in leaders:
                return True
            # Whatever has been made of the rest of the mark: what forged its number is not to get away by that.
            return is_marked(process.pid, lambda mark: mark.startswith(self.cookie))

        if round_up(belongs, lambda process: (process.pid, process.started) in self._left_alone):
            tier = tier or KillTier.DESCENDANTS
        return tier


class Unclosed:
    """The workers of one pool that have not been closed; ends them when the pool is forgotten.

    That is never before its loop is closed: as long as the loop reads from a worker, it keeps the pool alive. At the
    end of this process there is nothing to do but to complain: the workers miss it, and end what they run.

    Args:
        owner: What holds the workers; it is garbage no sooner than the pool.
        name: That of the pool's class, for the complaint; empty if there is nobody to complain of.
    """

    def __init__(self, owner: object, name: str) -> None:
        self.workers: set[Remains] = set()
        self._name = name
        self._host = os.getpid()
        self._complained = False
        _all_unclosed.add(self)
        weakref.finalize(owner, self.forgotten).atexit = False

    def forgotten(self) -> None:
        """The pool is garbage."""
        complaint = self.complaint()
        if complaint is not None:
            thread = threading.Thread(target=self.end, name="aiocmdpool-unclosed-workers", daemon=True)
            with contextlib.suppress(RuntimeError):  # no threads any more: this process ends
                thread.start()
            warnings.warn(complaint, ResourceWarning, stacklevel=2)  # which may raise

    def complaint(self) -> str | None:
        """What to warn of, once: what is not closed, if there is anything (in a fork it is somebody else's)."""
        if not self.workers or not self._name or self._complained or os.getpid() != self._host:
            return None
        self._complained = True
        count = len(self.workers)
        return f"a {self._name} with {count} running workers was not closed; use `async with`, or await its aclose()"

    def end(self) -> None:
        """End them all. Blocks."""
        while self.workers:
            self.workers.pop().end()


_all_unclosed: weakref.WeakSet[Unclosed] = weakref.WeakSet()


@atexit.register
def _complain_at_exit() -> None:
    complaints = []
    for each in list(_all_unclosed):
        complaints.append(each.complaint())
        for remains in list(each.workers):
            remains.hush()
    with contextlib.ExitStack() as warned:  # each of them may raise, and the others are to be heard
        for complaint in filter(None, reversed(complaints)):
            warned.callback(warnings.warn, complaint, ResourceWarning, stacklevel=2)
