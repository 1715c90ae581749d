"""A process between the worker and a program that may leave daemons: their subreaper, like containerd-shim.

Only descendants of the program may stay, and nothing else tells them apart: a mark can be copied, a group joined, and
the double fork of a daemon makes it an orphan before anybody sees it. So the program gets a subreaper of its own
(prctl(2)): every process below the shim belongs to its run, and no orphan of the run ever comes to the worker.

    worker ── shim (leads the group) ── program ── …
                └── orphans of the program

It forwards the reports of the program's child until its `exec`, then adds lines `pid N`, `began` and `exit WAIT_STATUS
USER SYSTEM MAXRSS`. After the exit of the program, it stays as long as anything is left below it: daemons that may stay
outlive the worker and the host. If the worker dies before the exit, or while it ends the run, the shim kills everything
below it.
"""

import os
import select
import time

from ..kernel.launcher import code_of
from ..kernel.prctl import be_visible, become_subreaper, hear_of_parents_death
from ..kernel.roundup import Roundup
from ..kernel.signals import hear_only, signal

TYPE_CHECKING = False  # `typing` takes 7 ms to import
if TYPE_CHECKING:
    from collections.abc import Callable

# Real-time signals, which no program sends to its own group. (Only Linux has shims.)
_LAST = getattr(signal, "SIGRTMAX", signal.SIGUSR2)
ORPHANED = _LAST - 1  # sent by the kernel when the worker dies
ENDED = _LAST  # sent by the worker when it ends the run: nothing may stay then, even if the worker dies
STEP = 0.002  # seconds between checks on processes to be killed
KILL_FOR = 10.0  # seconds after which leftovers are left to the kernel


class ShimUsage:
    """The part of a `struct_rusage` that a shim reports."""

    __slots__ = ("ru_maxrss", "ru_stime", "ru_utime")

    def __init__(self, user: bytes, system: bytes, max_rss: bytes) -> None:
        self.ru_utime = float(user)
        self.ru_stime = float(system)
        self.ru_maxrss = int(max_rss)


def supervise(worker: int, status: int, start: "Callable[[int], None]") -> None:
    """Start the program as a child, in this process group, and stay until nothing of it is left; never returns.

    Args:
        worker: Pid of the worker, the parent.
        status: The pipe for reports.
        start: Becomes the program, in the child; its argument is the pipe for its reports.
    """
    try:
        Shim(worker, status).run(start)
    except Exception as failure:
        os.write(status, b"error program %d\n" % code_of(failure))
    finally:
        os._exit(127)  # nobody reads its status after it has reported the program's exit


class Shim:
    """The process between the worker and one program, whose parent and subreaper it is.

    Args:
        worker: Pid of the worker, the parent.
        status: The pipe for reports.
    """

    def __init__(self, worker: int, status: int) -> None:
        self._worker = worker
        self._status = status
        self._pid = 0
        self._words = -1
        self._orphaned = self._ended = False
        self._wakeup, wakeup_end = os.pipe()
        os.set_blocking(wakeup_end, False)
        signal.set_wakeup_fd(wakeup_end, warn_on_full_buffer=False)
        self._wakeup_end = wakeup_end

    def run(self, start: "Callable[[int], None]") -> None:
        """Start the program, and stay until nothing of it is left."""
        be_visible()  # it never becomes a program, and the worker has to read what is below it
        become_subreaper()
        self._words, words_end = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            signal.set_wakeup_fd(-1)
            start(words_end)
        self._close_others()
        # What is meant for the group is for the program: a shim outlives every signal but KILL.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(ORPHANED, self._on_orphaned)
        signal.signal(ENDED, self._on_ended)
        hear_of_parents_death(ORPHANED)
        hear_only(signal.SIGCHLD, ORPHANED, ENDED)
        if os.getppid() != self._worker:
            self._orphaned = True
        self._say(b"pid %d\n" % self._pid)
        self._watch()

    def _on_orphaned(self, *_: object) -> None:
        self._orphaned = self._orphaned or os.getppid() != self._worker

    def _on_ended(self, *_: object) -> None:
        self._ended = True

    def _close_others(self) -> None:
        """Close all descriptors that belong to the program or the worker."""
        for stream in (0, 1, 2):
            os.close(stream)
        low = 3
        for fd in sorted({self._status, self._wakeup, self._wakeup_end, self._words}):
            os.closerange(low, fd)
            low = fd + 1
        os.closerange(low, os.sysconf("SC_OPEN_MAX"))

    def _say(self, line: bytes) -> None:
        try:
            os.write(self._status, line)
        except OSError:
            return  # the worker is gone, or has closed the pipe

    def _watch(self) -> None:
        """Forward the child's reports and reap children, until no child is left."""
        while self._reap():
            if self._orphaned and (self._pid or self._ended):
                self._kill_all()
                return
            poll = select.poll()  # select(2) refuses descriptors above 1,023
            poll.register(self._wakeup, select.POLLIN)
            if self._words >= 0:
                poll.register(self._words, select.POLLIN)
            readable = [fd for fd, _ in poll.poll()]
            if self._wakeup in readable:
                os.read(self._wakeup, 4096)
            if self._words in readable:
                self._pass_on()

    def _pass_on(self) -> bool:
        """Forward the child's reports; return whether there may be more. They end with its `exec` or its exit."""
        said = os.read(self._words, 4096)
        self._say(said or b"began\n")
        if not said:
            os.close(self._words)
            self._words = -1
        return bool(said)

    def _reap(self) -> bool:
        """Reap all children that have exited; return whether any child is left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if not pid:
                return True
            if pid == self._pid:
                self._pid = 0
                while self._words >= 0 and self._pass_on():
                    pass
                self._say(b"exit %d %r %r %d\n" % (status, usage.ru_utime, usage.ru_stime, usage.ru_maxrss))

    def _kill_all(self) -> None:
        me = os.getpid()
        roundup = Roundup(lambda process: process.parent == me)
        give_up_at = time.monotonic() + KILL_FOR
        while roundup.step() and time.monotonic() < give_up_at:
            self._reap()
            time.sleep(STEP)
