"""What programs leave behind: processes that lost their parents, and whose they are.

They come to this process because it is their subreaper (prctl(2)). Whose one is, is told by what it cannot change, as
far as there is such a thing: that it was seen as a descendant of a program while that lived, or that there is only one
run that it can be of. Its process group says less: it may join another one of its session (setpgid(2)). Least says the
mark in its environment, which it can copy from the program beside it (proc_pid_environ(5)): with a run that only that
names, a process dies, but the run is not told that it has left something. Where group and mark say different things, it
dies with the first of the two.
"""

import os
import time

from ..guardian import tell_left
from ..kernel import processes as procs

UNDECIDED = -2
LEAVE_ATTEMPTS = 200  # looks at what is left, 5 ms apart
REMEMBERED = 10_000  # descendants of programs that are being ended

TYPE_CHECKING = False  # `typing` takes 7 ms to import
if TYPE_CHECKING:
    from .run import Run


class _Doubtful:
    """A stray that may be of one of several runs.

    Attributes:
        suspects: Those of them that are left.
        with_first: Whether it dies with the first of them, not with the last.
    """

    __slots__ = ("process", "suspects", "with_first")

    def __init__(self, process: procs.Process, suspects: "set[Run]", with_first: bool) -> None:
        self.process = process
        self.suspects = suspects
        self.with_first = with_first


class Strays:
    """The children of this process that are not its programs.

    Args:
        cookie: That of this worker.
        leaders: Its programs, by pid, until they are reaped; kept up to date by the worker.
        notes: The pipe to the guardian, which is told what may stay; -1 is none.
    """

    def __init__(self, cookie: bytes, leaders: "dict[int, Run]", notes: int = -1) -> None:
        self._cookie = cookie
        self._leaders = leaders
        self._notes = notes
        self._children = procs.Children()
        self.visible = self._children.visible
        """Whether the kernel shows children, and so strays."""
        self._left_alone: set[int] = set()  # pids of what a detached run was allowed to leave
        self._descendants: dict[tuple[int, int], Run] = {}  # by pid and start: seen below a program while it lived
        self._trees: dict[Run, list[tuple[int, int]]] = {}  # the same, by run
        self._doubtful: dict[int, _Doubtful] = {}  # by pid
        self._last_over = 0.0  # when a run was last replied to: what is older may be of that one
        self._owned: dict[int, tuple[int, Run]] = {}  # by pid: start, and the run it certainly is of
        self._dying: set[Run | None] = set()  # the runs in whose groups children were dying at the last look
        self.undecided = False
        """Whether one was in the middle of an `exec` at the last look, and is to be looked at again soon."""

    # -- whose they are ---------------------------------------------------------------------------------------------

    def by_run(self, runs: "dict[int, Run]", exited: "set[Run]") -> "tuple[dict[Run, list[procs.Process]], bool]":
        """Return the living strays by the run they certainly belong to; those of no run that is left are killed.

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
                self._dying.add(by_leader.get(procs.group_of(pid)))
                continue
            run = self._owner(process, runs, by_leader, exited)
            if run is not None:
                found.setdefault(run, []).append(process)
        return found, bool(self._dying)

    def more_may_come(self, run: "Run") -> bool:
        """Whether a child was dying, at the last look, that may yet hand over children of its own, and of this run."""
        return run in self._dying or None in self._dying

    def _owner(
        self, process: procs.Process, runs: "dict[int, Run]", by_leader: "dict[int, Run]", exited: "set[Run]"
    ) -> "Run | None":
        """Return the run that a stray certainly is of; deal with the stray if there is none."""
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
        run, suspects = self._judge(process, runs, by_leader, exited, number)
        if run is not None:
            self._owned[pid] = process.started, run
        elif suspects:
            with_first = len(suspects) == 1 or number in runs
            self._doubtful[pid] = _Doubtful(process, suspects, with_first)
        else:
            process.kill()
        return run

    def _judge(
        self,
        process: procs.Process,
        runs: "dict[int, Run]",
        by_leader: "dict[int, Run]",
        exited: "set[Run]",
        number: int,
    ) -> "tuple[Run | None, set[Run]]":
        """Return the run that a stray certainly is of, or `None` and those that it may be of."""
        known = self._descendants.get((process.pid, process.started))
        if known is not None and not known.done:
            return known, set()
        group, marked = by_leader.get(process.group), runs.get(number)
        if number >= 0 and marked is None:  # of a run that is over, or a number that somebody made up
            return None, set()
        possible = {run for run in runs.values() if run.may_be_older_than(process)}
        if len(possible) == 1 and not procs.started_before(process, self._last_over):
            return possible.pop(), set()
        if group is not None and marked in (group, None):
            # Alone, membership proves little: it may have joined. What carries no mark at all has shed its own.
            return (group, set()) if marked is group else (None, {group})
        if group is not None and marked is not None:
            return None, {group, marked}
        if marked is None:
            return None, possible
        # An orphan comes when its parent dies: that its program has just died as well is a second word for a run.
        return (marked, set()) if exited == {marked} else (None, {marked})

    def _number_of(self, pid: int) -> int:
        """Return the number of the run of this worker that a mark names; -1 if none does."""
        marks = procs.marks_of(pid)
        if marks is None:
            return UNDECIDED
        return procs.number_in(marks, self._cookie)

    @property
    def doubts(self) -> bool:
        """Whether there is a stray that may be of several runs."""
        return bool(self._doubtful)

    def is_of_another(self, process: procs.Process, run: "Run") -> bool:
        """Whether a process is the program of another run or below it, whatever group it has joined."""
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
        """Whether a process is to be killed with a run, its descent apart; `None` if that cannot be told now."""
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
        """Note the descendants of a program that lives; once it is dead, nobody can tell whose they are."""
        if not self.visible or len(self._descendants) > REMEMBERED:
            return
        for process in procs.descendants(run.pid, REMEMBERED):
            key = process.pid, process.started
            if self._descendants.setdefault(key, run) is run:
                self._trees.setdefault(run, []).append(key)

    # -- what becomes of them ---------------------------------------------------------------------------------------

    def leave_alone(self, pid: int) -> None:
        """Let a process live that a detached run has left."""
        self._left_alone.add(pid)
        tell_left(self._notes, pid)

    def reaped(self, pid: int) -> None:
        """Forget a child that was no program and is no more."""
        self._left_alone.discard(pid)
        self._doubtful.pop(pid, None)
        self._owned.pop(pid, None)

    def claimed_by(self, run: "Run") -> "list[procs.Process]":
        """Return what dies with a run although it does not certainly belong to it."""
        return [
            doubtful.process
            for doubtful in self._doubtful.values()
            if run in doubtful.suspects and (doubtful.with_first or len(doubtful.suspects) == 1)
        ]

    def _release(self, run: "Run") -> None:
        """Kill what may have been of a run that is over; what can still be of another one waits for that."""
        for doubtful in list(self._doubtful.values()):
            if run in doubtful.suspects:
                doubtful.suspects.discard(run)
                if doubtful.with_first or not doubtful.suspects:
                    doubtful.process.kill()

    def over(self, run: "Run") -> None:
        """Note that a run has been replied to."""
        if run.detaches:
            # Those that are children still: whoever counts and is none would hide a stray from `more_than`.
            for pid in run.left_alone & set(map(int, self._children.more_than(0))):
                self.leave_alone(pid)
        self._last_over = time.monotonic()
        if self._doubtful:
            self._release(run)
        for key in self._trees.pop(run, ()):
            self._descendants.pop(key, None)

    def kill(self, unkillable: "frozenset[int] | set[int]" = frozenset()) -> int:
        """Kill every child but what was left alone: no program is left. Return how many cannot be killed."""
        refused = 0
        for pid in map(int, self._children.more_than(len(self._left_alone))):
            if pid in self._left_alone:
                continue
            refused += not procs.kill_child(pid) or pid in unkillable
        return refused

    def leave(self, unkillable: "set[int]") -> None:
        """Take along whatever is still there; what dies hands its own children over, so look again.

        Args:
            unkillable: Pids of programs that have been killed in vain, and are not waited for.
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
