"""What programs leave behind: processes that lost their parents, and whose they are.

They come to this process because it is their subreaper (prctl(2)). The run that one belongs to is told by its process
group, else by the mark in its environment; one that has shed both is held against every run that it can be of.
"""

import os
import time

from ..kernel import processes as procs

UNDECIDED = -2
LEAVE_ATTEMPTS = 200  # looks at what is left, 5 ms apart

TYPE_CHECKING = False  # `typing` takes 7 ms to import
if TYPE_CHECKING:
    from .run import Run


class Strays:
    """The children of this process that are not its programs.

    Args:
        cookie: That of this worker.
    """

    def __init__(self, cookie: bytes) -> None:
        self._cookie = cookie
        self._children = procs.Children()
        self.visible = self._children.visible
        """Whether the kernel shows children, and so strays."""
        self._left_alone: set[int] = set()  # pids of what a detached run was allowed to leave
        self._ended: set[int] = set()  # the detached runs that were not: they have been ended, with all of them
        self._suspects: dict[int, set[Run]] = {}  # pid of a nameless one -> the runs left that were there when it came
        self._disputed: set[int] = set()  # pids of those for which there were several
        self._may_be_left = False  # whether a detached run has been over
        self._dying: set[Run | None] = set()  # the runs in whose groups children were dying at the last look
        self.undecided = False
        """Whether one was in the middle of an `exec` at the last look, and is to be looked at again soon."""

    def by_run(
        self, leaders: "dict[int, Run]", runs: "dict[int, Run]"
    ) -> "tuple[dict[Run, list[procs.Process]], bool]":
        """The living strays by the run they belong to; those of no run that is left are killed.

        Args:
            leaders: The programs, by pid, until they are reaped.
            runs: The runs, by request id, until they are replied to.

        Returns:
            The strays, and whether a child is dead but not reaped yet.
        """
        found: dict[Run, list[procs.Process]] = {}
        self._dying.clear()
        self.undecided = False
        children = self._children.more_than(len(leaders) + len(self._left_alone))
        by_leader = {run.pid: run for run in runs.values()} if children else {}
        for pid in map(int, children):
            if pid in leaders or pid in self._left_alone:
                continue
            process = procs.look_at(pid)
            if process is None:
                self._dying.add(by_leader.get(procs.group_of(pid)))
                continue
            run = by_leader.get(process.group) or self._owner(process, runs)
            if run is not None:
                found.setdefault(run, []).append(process)
        return found, bool(self._dying)

    def more_may_come(self, run: "Run") -> bool:
        """Whether a child was dying, at the last look, that may yet hand over children of its own, and of this run."""
        return run in self._dying or None in self._dying

    def _owner(self, process: procs.Process, runs: "dict[int, Run]") -> "Run | None":
        """The run that a process outside of all groups belongs to; deals with it if there is none."""
        pid = process.pid
        number, detached = self._number_of(pid)
        if number == UNDECIDED:
            self.undecided = True
            return None
        if number >= 0:
            run = runs.get(number)
            if run is None and detached and number not in self._ended:
                self.leave_alone(pid)
            elif run is None:  # a late find
                _kill(pid)
            return run
        if pid not in self._suspects:
            self._suspects[pid] = set(runs.values())
            if len(runs) > 1:
                self._disputed.add(pid)
        suspects = self._suspects[pid]
        if not suspects:
            _kill(pid)
        if pid in self._disputed or not suspects:
            return None
        return next(iter(suspects))  # whose else can it be?

    def _number_of(self, pid: int) -> "tuple[int, bool]":
        """The run of this worker that a mark names, and whether it is a detached one; -1 if none does."""
        marks = procs.marks_of(pid)
        if marks is None:
            return UNDECIDED, False
        for mark in marks:
            for separator in (b":", b"+"):
                cookie, _, number = mark.rpartition(separator)
                if cookie == self._cookie and number.isdigit():
                    return int(number), separator == b"+"
        return -1, False

    def leave_alone(self, pid: int) -> None:
        """A detached run has ended and may leave this one behind."""
        self._left_alone.add(pid)

    def reaped(self, pid: int) -> None:
        """A child that was no program is no more."""
        self._left_alone.discard(pid)
        self._suspects.pop(pid, None)
        self._disputed.discard(pid)

    def over(self, run: "Run") -> None:
        """A run has been replied to; a nameless stray for which no run is left is killed."""
        if run.detaches:
            self._may_be_left = True
            # Those that are children still: whoever counts and is none would hide a stray from `more_than`.
            self._left_alone |= run.left_alone & set(map(int, self._children.more_than(0)))
        elif run.is_detached:
            self._ended.add(run.number)
        for pid, suspects in self._suspects.items():
            if run in suspects and run.detaches:  # it may be what that run was allowed to leave
                self.leave_alone(pid)
                continue
            suspects.discard(run)
            if not suspects and pid not in self._left_alone:
                _kill(pid)

    def kill(self) -> None:
        """No program is left, so every child has been left behind by one."""
        for pid in map(int, self._children.more_than(len(self._left_alone))):
            if pid in self._left_alone:
                continue
            number, detached = self._number_of(pid)
            if detached and number not in self._ended:
                self.leave_alone(pid)
            elif number == UNDECIDED and self._may_be_left:
                self.undecided = True
            else:
                _kill(pid)

    def leave(self) -> None:
        """Take along whatever is still there; what dies hands its own children over, so look again."""
        for _ in range(LEAVE_ATTEMPTS):
            self.kill()
            try:
                while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                    self._left_alone.discard(pid)
            except ChildProcessError:
                return
            if self.visible and not self._children.more_than(len(self._left_alone)):
                return
            time.sleep(0.005)


def _kill(pid: int) -> None:
    """Kill a child; it is not reaped yet, so the number is its own."""
    try:
        os.kill(pid, 9)
    except OSError:
        return  # somebody else's (setuid)
