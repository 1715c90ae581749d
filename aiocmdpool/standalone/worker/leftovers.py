"""`Leftovers`: the processes that are left of a run when its program has exited, and how they are ended."""

from ..kernel import processes as procs
from ..kernel.roundup import Roundup
from ..kernel.signals import signal
from ..wire import messages

TYPE_CHECKING = False  # `typing` takes 7 ms to import
if TYPE_CHECKING:
    from .run import Run
    from .strays import Strays

MANY = 10_000  # descendants at most


class Leftovers:
    """The living processes of a run whose program has exited, as of the last check.

    Args:
        run: The run that they belong to.
        strays: What is known of all orphans of the worker.
    """

    __slots__ = ("_claimed", "_left", "_more_may_come", "_roundup", "_run", "_strays", "_untouchable")

    def __init__(self, run: "Run", strays: "Strays") -> None:
        self._run = run
        self._strays = strays
        self._left: list[procs.Process] = []
        self._claimed: list[procs.Process] = []  # strays to kill with this run, although they may be of another
        self._untouchable: set[int] = set()  # pids of those that may not be signalled
        self._roundup: Roundup | None = None
        self._more_may_come = False

    @property
    def certain(self) -> bool:
        """Return whether there are any that certainly belong to the run."""
        return bool(self._left)

    @property
    def may_change(self) -> bool:
        """Return whether there are any, or may be, so that the worker has to check again."""
        return bool(self._left or self._claimed or self._more_may_come)

    def found(self, strays: "list[procs.Process]", more_may_come: bool) -> None:
        """Record what a check has found; see `Run.end_leftovers`."""
        run = self._run
        self._more_may_come = more_may_come
        self._left = self._all_left(strays)
        if run.detaches:
            run.left_alone.update({run.pid} if run.has_shim else (process.pid for process in strays))
            self._left = []
            self._more_may_come = False
        elif self._strays.doubts or self._claimed:
            claimed = self._strays.claimed_by(run)
            self._claimed = [process for process in claimed if process.pid not in self._untouchable]

    def _all_left(self, strays: "list[procs.Process]") -> "list[procs.Process]":
        run = self._run
        if run.has_shim and not run.is_reaped:
            known = {process.pid for process in strays}
            return strays + [each for each in procs.descendants(run.pid, MANY) if each.pid not in known]
        # Members that the leader leaves become children of this process, so without strays nothing is left of the
        # group. Killing it costs one call, but reading processes needs descriptors, of which there may be none.
        if (strays or self._more_may_come or not self._strays.visible) and run.signal_group(0):
            known = {process.pid for process in strays}
            return strays + [
                each
                for each in procs.in_group_or_session(run.pid)
                if each.pid not in known and not self._strays.is_of_another(each, run)
            ]
        return strays

    def count(self) -> "tuple[int, int]":
        """Return how many there are, and how many of them are in the program's own process group."""
        if not self._strays.visible:
            left = int(not self._run.detaches and self._run.signal_group(0))  # all that can be found out there
            return left, left
        left = len(self._left) + len(self._claimed) + self._more_may_come
        return left, sum(process.group == self._run.pid for process in (*self._left, *self._claimed))

    def ask(self) -> None:
        """Ask leftovers of the exited program to end: git then removes its lock, and gpg-agent its sockets."""
        number = self._run.request.stop_signal
        self._note()
        if not self._strays.visible:
            self._run.signal_all(number)
        for process in (*self._left, *self._claimed):
            process.signal(number)
            process.signal(signal.SIGCONT)

    def sweep(self) -> None:
        """Kill leftovers. Processes found in later rounds may be multiplying, and are rounded up."""
        run = self._run
        # Right after the reaping only: later the group id may belong to another process.
        if (run.number_kept or not self._strays.visible) and not run.has_shim:
            run.number_kept = False
            run.signal_group(signal.SIGKILL)
        self._note()
        if self._roundup is None:
            self._roundup = Roundup(lambda process: self._strays.is_to_die_with(process, run))
            for process in self._left:
                process.kill()
        else:
            self._roundup.step()
        for process in self._claimed:
            if not process.signal(signal.SIGKILL):
                self._untouchable.add(process.pid)

    def _note(self) -> None:
        run = self._run
        for process in self._left:
            run.leaked[process.pid] = process.name
            run.tier = max(run.tier, messages.GROUP if process.group == run.pid else messages.DESCENDANTS)

    def names(self) -> "list[bytes]":
        """Return pid and name of each that still lives and certainly belongs to the run."""
        left = {process.pid: process for process in self._left}
        if self._roundup is not None:
            left |= {process.pid: process for process in self._roundup.left}
        return [b"%d %s" % (process.pid, process.name) for process in left.values() if process.lives()]
