"""Rounds up processes that multiply during the search: stop all that are found, search again, then kill all.

Killing one after the other fails against processes that fork faster than they are found: each that dies makes room for
another, and its children are adopted by a process that nobody checks. A stopped process keeps its place (RLIMIT_NPROC,
pids.max), starts nothing more and stays the parent of its children. So the tree holds still while it is read.
"""

import os

from . import processes as procs
from . import procfs
from .signals import signal

TYPE_CHECKING = False  # `typing` takes 7 ms to import
if TYPE_CHECKING:
    from collections.abc import Callable

CHASES = 10  # rounds within a search, after pids that were given out meanwhile
MAX_LOOKS = 20  # searches, after which processes that never hold still are killed as they run
_HELD = (b"T", b"t", b"D")  # stopped, traced, or waiting in the kernel with the stop pending: it does not fork


class Roundup:
    """Processes to be ended together, with all their descendants.

    A process that has been found once stays found, even after its parent is gone. Nothing in here waits: call `step`
    until it returns False, with pauses of about a millisecond, and within a time limit of the caller's.

    Args:
        belongs: Tells whether a process is wanted, apart from its parent: by its group, session or mark. `None`: it
            cannot be told yet, in the middle of an `exec`. Called once for each process and group that it joins.
        spares: Tells whether a process is to be left alone, with its descendants.

    Attributes:
        found: Number of processes found so far.
        left: Processes alive at the last search.
        untouchable: Pids of those that this process may not signal (setuid).
    """

    def __init__(
        self,
        belongs: "Callable[[procs.Process], bool | None]",
        spares: "Callable[[procs.Process], bool]" = lambda _: False,
    ) -> None:
        self._belongs = belongs
        self._spares = spares
        self._strangers: dict[int, tuple[int, int, int]] = {}  # by pid: start, group, session when `belongs` said no
        self._members: dict[int, procs.Process] = {}  # all found so far; of several with one pid, the last
        self._seen: dict[int, procs.Process] = {}  # in the present search
        self._spared: set[int] = set()  # in the present search
        self._looks = 0
        self._incomplete = False
        self.found = 0
        self.left: list[procs.Process] = []
        self.untouchable: set[int] = set()

    @property
    def members(self) -> "list[procs.Process]":
        """Return all processes that have been found so far."""
        return list(self._members.values())

    def step(self) -> bool:
        """Search once; stop what runs, or kill all if nothing does. Return whether another step is needed."""
        self._looks += 1
        self._incomplete = False
        self._look()
        self.left = list(self._seen.values())
        if not self._incomplete or self._looks >= MAX_LOOKS:
            for process in self.left:
                process.kill()
        return self._incomplete or any(process.pid not in self.untouchable for process in self.left)

    def _look(self) -> None:
        """Find the members, oldest pid first, and stop each as soon as it is found."""
        self._seen, self._spared = {}, set()
        others: dict[int, procs.Process] = {}
        before, newest = None, procfs.newest_pid()
        for _ in range(CHASES):
            for pid in procfs.pids_between(before, newest):
                process = procs.look_at(pid)
                if process is not None and not self._take(process, is_chased=before is not None):
                    others[pid] = process
            before, newest = newest, procfs.newest_pid()
            if before == newest:
                break
        count = -1
        while count < len(self._seen):  # a pid may be lower than its parent's, after pids started again
            count = len(self._seen)
            for process in others.values():
                self._take_child(process)

    def _take(self, process: procs.Process, is_chased: bool) -> bool:
        """Stop a process if it is a member; return whether it is.

        Args:
            process: The process, alive a moment ago.
            is_chased: Whether its pid was guessed, so that it may be the id of a thread.
        """
        if not self._is_member(process) or (is_chased and procfs.is_thread(process.pid)):
            return False
        self._stop(process)
        return True

    def _take_child(self, process: procs.Process) -> None:
        """Stop a process if its parent has become a member."""
        pid = process.pid
        if process.parent in self._seen and pid not in self._seen and pid not in self._spared and pid != os.getpid():
            self._stop(process)

    def _is_member(self, process: procs.Process) -> bool:
        pid = process.pid
        if pid == os.getpid():
            return False
        known = self._members.get(pid)
        if known is not None and known.started == process.started:
            return True
        if process.parent in self._spared or self._spares(process):
            self._spared.add(pid)
            return False
        if process.parent in self._seen:
            return True
        asked = (process.started, process.group, process.session)
        if self._strangers.get(pid) == asked:
            return False
        belongs = self._belongs(process)
        if belongs is None:
            self._incomplete = True
        elif not belongs:
            self._strangers[pid] = asked
        return bool(belongs)

    def _stop(self, process: procs.Process) -> None:
        pid = process.pid
        known = self._members.get(pid)
        is_new = known is None or known.started != process.started
        self._members[pid] = self._seen[pid] = process
        self.found += is_new
        if not is_new and (process.state in _HELD or pid in self.untouchable):
            return
        try:
            # Read microseconds ago, so its pid cannot have been reused since.
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            del self._seen[pid]
        except PermissionError:
            self.untouchable.add(pid)
        else:
            self._incomplete = True
