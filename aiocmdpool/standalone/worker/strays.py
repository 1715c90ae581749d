"""`Strays`: orphans that programs leave behind, and the runs that they belong to.

Orphans come to this process because it is their subreaper (prctl(2)). To which run one belongs is decided by facts that
it cannot change, as far as there are any: that it was seen as a descendant of a program while that lived, or that only
one run is possible. Its process group says less: it may join another one of its session (setpgid(2)). Least reliable is
the mark in its environment, which it can copy from another program (proc_pid_environ(5)): if only the mark names a run,
the process dies with it, but is not reported as left by it. If group and mark contradict each other, the process dies
with the first of the two runs.
"""

import os
import time

from ..guardian import tell_left
from ..kernel import processes as procs
from ..kernel import procfs

UNDECIDED = -2
LEAVE_ATTEMPTS = 200  # checks on leftovers, 5 ms apart
REMEMBERED = 10_000  # descendants of programs that are being ended

TYPE_CHECKING = False  # `typing` takes 7 ms to import
if TYPE_CHECKING:
    from .run import Run


class _Doubtful:
    """A stray that may belong to one of several runs.

    Attributes:
        suspects: Those of these runs that are not over.
        with_first: Whether it dies with the first of them that is over, and not with the last.
    """

    __slots__ = ("process", "suspects", "with_first")

    def __init__(self, process: procs.Process, suspects: "set[Run]", with_first: bool) -> None:
        self.process = process
        self.suspects = suspects
        self.with_first = with_first


class Strays:
    """The children of this process that are not its programs.

    Args:
        cookie: The cookie of this worker.
        leaders: Runs by pid of their programs, until these are reaped; updated by the worker.
        notes: The pipe to the guardian, which is told what may stay; -1 for none.
    """

    def __init__(self, cookie: bytes, leaders: "dict[int, Run]", notes: int = -1) -> None:
        self._cookie = cookie
        self._leaders = leaders
        self._notes = notes
        self._children = procfs.Children()
        self.visible = self._children.visible
        """Whether the kernel lists children, and so strays."""
        self._left_alone: set[int] = set()  # pids of processes that a detached run may leave
        self._descendants: dict[tuple[int, int], Run] = {}  # by pid and start: seen below a program while it lived
        self._trees: dict[Run, list[tuple[int, int]]] = {}  # the keys of `_descendants`, by run
        self._doubtful: dict[int, _Doubtful] = {}  # by pid
        self._last_over = 0.0  # time of the last reply: an older process may be of that run
        self._owned: dict[int, tuple[int, Run]] = {}  # by pid: start, and the run that it certainly belongs to
        self._dying: set[Run | None] = set()  # runs in whose groups children were dying at the last check
        self.undecided = False
        """Whether a stray was in the middle of an `exec` at the last check, which has to be repeated soon."""

    # -- whose they are ---------------------------------------------------------------------------------------------

    def by_run(self, runs: "dict[int, Run]", exited: "set[Run]") -> "tuple[dict[Run, list[procs.Process]], bool]":
        """Return the living strays by the run that they certainly belong to; those of no run that is left are killed.

        Args:
            runs: The runs, by request id, until they are replied to.
            exited: The runs whose programs have exited since the last look.

        Returns:
            The strays, and whether a child is dead but not reaped yet.
        """
        found: dict[Run, list[procs.Process]] = {}
        self._dying.clear()
        self.undecided = False
        children = self._children.more_than(len(self._leaders) + len(self._left_alone))
        by_leader = {run.pid: run for run in runs.values()} if children else {}
        for pid in map(int, children):
            if pid in self._leaders or pid in self._left_alone:
                continue
            process = procs.look_at_child(pid)
            if process is None:
                self._dying.add(by_leader.get(procfs.group_of(pid)))
                continue
            run = self._owner(process, runs, by_leader, exited)
            if run is not None:
                found.setdefault(run, []).append(process)
        return found, bool(self._dying)

    def more_may_come(self, run: "Run") -> bool:
        """Return whether a child was dying at the last check that may still hand over children of this run."""
        return run in self._dying or None in self._dying

    def _owner(
        self, process: procs.Process, runs: "dict[int, Run]", by_leader: "dict[int, Run]", exited: "set[Run]"
    ) -> "Run | None":
        """Return the run that a stray certainly belongs to; record or kill the stray if there is none."""
        pid = process.pid
        owned = self._owned.get(pid)
        if owned is not None and owned[0] == process.started and not owned[1].done:
            return owned[1]
        if pid in self._doubtful:
            return None
        number = self._number_of(pid)
        if number == UNDECIDED:
            self.undecided = True
            return None
        run, suspects = self._run_or_suspects(process, runs, by_leader, exited, number)
        if run is not None:
            self._owned[pid] = process.started, run
        elif suspects:
            with_first = len(suspects) == 1 or number in runs
            self._doubtful[pid] = _Doubtful(process, suspects, with_first)
        else:
            process.kill()
        return run

    def _run_or_suspects(
        self,
        process: procs.Process,
        runs: "dict[int, Run]",
        by_leader: "dict[int, Run]",
        exited: "set[Run]",
        number: int,
    ) -> "tuple[Run | None, set[Run]]":
        """Return the run that a stray certainly belongs to, or `None` and the runs that it may belong to."""
        known = self._descendants.get((process.pid, process.started))
        if known is not None and not known.done:
            return known, set()
        group, marked = by_leader.get(process.group), runs.get(number)
        if number >= 0 and marked is None:  # of a run that is over, or with a forged number
            return None, set()
        possible = {run for run in runs.values() if run.may_be_older_than(process)}
        if len(possible) == 1 and not procs.started_before(process, self._last_over):
            return possible.pop(), set()
        if group is not None and marked in (group, None):
            # Membership alone proves little: it may have joined. A process without any mark has removed its own.
            return (group, set()) if marked is group else (None, {group})
        if group is not None and marked is not None:
            return None, {group, marked}
        if marked is None:
            return None, possible
        # Orphans come when their parent dies: that the marked run's program has just died, too, confirms the mark.
        return (marked, set()) if exited == {marked} else (None, {marked})

    def _number_of(self, pid: int) -> int:
        """Return the number of this worker's run that a mark names; -1 if none does, `UNDECIDED` during an `exec`."""
        marks = procs.marks_of(pid)
        if marks is None:
            return UNDECIDED
        return procs.number_in(marks, self._cookie)

    @property
    def doubts(self) -> bool:
        """Return whether there is a stray that may belong to several runs."""
        return bool(self._doubtful)

    def is_of_another(self, process: procs.Process, run: "Run") -> bool:
        """Return whether a process is the program of another run or below it, whatever group it has joined."""
        itself = self._leaders.get(process.pid)
        if itself is not None:
            return itself is not run
        below: procs.Process | None = process
        while below is not None and below.parent > 1:
            leader = self._leaders.get(below.parent)
            if leader is not None:
                return leader is not run
            below = procs.look_at(below.parent)
        known = self._descendants.get((process.pid, process.started))
        return known is not None and known is not run

    def is_to_die_with(self, process: procs.Process, run: "Run") -> "bool | None":
        """Return whether a process must die with a run, apart from its parents; `None` if that cannot be told now."""
        if not run.may_be_older_than(process) or process.pid in self._left_alone:
            return False
        owned = self._owned.get(process.pid)
        known = self._descendants.get((process.pid, process.started))
        if known is run or (owned is not None and owned == (process.started, run)):
            return True
        if process.pid in self._leaders or self.is_of_another(process, run):
            return False
        if process.group == run.pid:
            return True
        number = self._number_of(process.pid)
        return None if number == UNDECIDED else number == run.number

    def remember_tree(self, run: "Run") -> None:
        """Record the descendants of a living program; after its death, nobody can tell whose they are."""
        if not self.visible or len(self._descendants) > REMEMBERED:
            return
        for process in procs.descendants(run.pid, REMEMBERED):
            key = process.pid, process.started
            if self._descendants.setdefault(key, run) is run:
                self._trees.setdefault(run, []).append(key)

    # -- what becomes of them ---------------------------------------------------------------------------------------

    def leave_alone(self, pid: int) -> None:
        """Spare the process `pid`, which a detached run has left."""
        self._left_alone.add(pid)
        tell_left(self._notes, pid)

    def reaped(self, pid: int) -> None:
        """Forget a reaped child that was no program."""
        self._left_alone.discard(pid)
        self._doubtful.pop(pid, None)
        self._owned.pop(pid, None)

    def claimed_by(self, run: "Run") -> "list[procs.Process]":
        """Return the strays that die with a run although they do not certainly belong to it."""
        return [
            doubtful.process
            for doubtful in self._doubtful.values()
            if run in doubtful.suspects and (doubtful.with_first or len(doubtful.suspects) == 1)
        ]

    def _release(self, run: "Run") -> None:
        """Kill the strays that may have belonged to a run that is over, unless they wait for another one."""
        for doubtful in list(self._doubtful.values()):
            if run in doubtful.suspects:
                doubtful.suspects.discard(run)
                if doubtful.with_first or not doubtful.suspects:
                    doubtful.process.kill()

    def over(self, run: "Run") -> None:
        """Record that a run has been replied to."""
        if run.detaches:
            # Only those that are still children: to count others would hide a stray from `more_than`.
            for pid in run.left_alone & set(map(int, self._children.more_than(0))):
                self.leave_alone(pid)
        self._last_over = time.monotonic()
        if self._doubtful:
            self._release(run)
        for key in self._trees.pop(run, ()):
            self._descendants.pop(key, None)

    def kill(self, unkillable: "frozenset[int] | set[int]" = frozenset()) -> int:
        """Kill every child that may not stay, because no program is left; return how many cannot be killed."""
        refused = 0
        for pid in map(int, self._children.more_than(len(self._left_alone))):
            if pid in self._left_alone:
                continue
            refused += not procs.kill_child(pid) or pid in unkillable
        return refused

    def leave(self, unkillable: "set[int]") -> None:
        """Kill all remaining children, up to LEAVE_ATTEMPTS times: a dying process hands its children over to this one.

        Args:
            unkillable: Pids of programs that have survived a kill, and are not waited for.
        """
        for _ in range(LEAVE_ATTEMPTS):
            refused = self.kill(unkillable)
            try:
                while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                    self._left_alone.discard(pid)
            except ChildProcessError:
                return
            if self.visible and not self._children.more_than(len(self._left_alone) + refused):
                return
            time.sleep(0.005)
