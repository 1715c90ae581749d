"""Rounds up processes that multiply while they are looked for: stop all that are found, look again, then kill all.

Killing one after the other loses against whoever forks faster than it is found: each that dies makes room for another,
and hands its children over to a reaper that nobody looks at. One that is stopped keeps its place (RLIMIT_NPROC,
pids.max), starts nothing more and stays the parent of what it has started. So the tree holds still while it is read.
"""

import os
import signal

from . import processes as procs

TYPE_CHECKING = False  # `typing` takes 7 ms to import
if TYPE_CHECKING:
    from collections.abc import Callable

CHASES = 10  # in one look, after pids that were given meanwhile
MAX_LOOKS = 20  # at what never holds still; then it is killed as it runs
_HELD = (b"T", b"t", b"D")  # stopped, traced, or waiting in the kernel with the stop pending: it does not fork


class Roundup:
    """Processes to be ended together, with all their descendants.

    Whatever has been found once stays found, also when its parent is gone. Nothing in here waits: call `step` until it
    returns False, with a pause of about a millisecond in between, and no longer than there is patience for.

    Args:
        belongs: Whether a process is wanted, apart from its parent: by its group, session or mark. `None`: it cannot
            be told yet, in the middle of an `exec`. Asked once for each process and group that it joins.
        spares: Whether a process, with its descendants, is to be left alone.

    Attributes:
        found: How many have been found so far.
        left: Those alive at the last look.
        untouchable: Pids of those of them that this process may not signal (setuid).
    """

    def __init__(
        self,
        belongs: "Callable[[procs.Process], bool | None]",
        spares: "Callable[[procs.Process], bool]" = lambda _: False,
    ) -> None:
        self._belongs = belongs
        self._spares = spares
        self._strangers: dict[int, tuple[int, int, int]] = {}  # by pid: what they were when they were asked about
        self._members: dict[int, procs.Process] = {}  # all ever found, the last of each pid
        self._seen: dict[int, procs.Process] = {}  # at the present look
        self._spared: set[int] = set()  # at the present look
        self._looks = 0
        self._unsettled = False
        self.found = 0
        self.left: list[procs.Process] = []
        self.untouchable: set[int] = set()

    @property
    def members(self) -> "list[procs.Process]":
        """All that have been found so far."""
        return list(self._members.values())

    def step(self) -> bool:
        """Take one look; stop what runs, or kill all if nothing does. Whether another step is of use."""
        self._looks += 1
        self._unsettled = False
        self._look()
        self.left = list(self._seen.values())
        if not self._unsettled or self._looks >= MAX_LOOKS:
            for process in self.left:
                process.kill()
        return self._unsettled or any(process.pid not in self.untouchable for process in self.left)

    def _look(self) -> None:
        """Find the members, oldest pid first, and stop each as soon as it is found."""
        self._seen, self._spared = {}, set()
        others: dict[int, procs.Process] = {}
        before, newest = None, procs.newest_pid()
        for _ in range(CHASES):
            for pid in procs.pids_between(before, newest):
                process = procs.look_at(pid)
                if process is not None and not self._take(process, is_chased=before is not None):
                    others[pid] = process
            before, newest = newest, procs.newest_pid()
            if before == newest:
                break
        count = -1
        while count < len(self._seen):  # a pid may be lower than that of the parent, where they have begun anew
            count = len(self._seen)
            for process in others.values():
                self._take_child(process)

    def _take(self, process: procs.Process, is_chased: bool) -> bool:
        """Stop a process if it is a member; whether it is.

        Args:
            process: The process, alive a moment ago.
            is_chased: Whether its number was guessed, so that it may be that of a thread.
        """
        if not self._is_member(process) or (is_chased and procs.is_thread(process.pid)):
            return False
        self._stop(process)
        return True

    def _take_child(self, process: procs.Process) -> None:
        """Stop a process if its parent is a member by now."""
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
            self._unsettled = True
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
            # Looked at microseconds ago: the number cannot have gone round all pids to somebody else since.
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            del self._seen[pid]
        except PermissionError:
            self.untouchable.add(pid)
        else:
            self._unsettled = True
