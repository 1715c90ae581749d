"""Stays between the worker and a program that may leave daemons behind: their subreaper, as containerd-shim is.

What may stay is what descends from this one program, and nothing else tells that: a mark can be copied, a group joined,
and a daemon's double fork makes it an orphan before anybody looks. So the program gets a subreaper of its own
(prctl(2)): every process below the shim is of its run, and no orphan of the run ever comes to the worker.

    worker ── shim (leads the group) ── program ── …
                └── orphans of the program

It reports what the program's child says until its `exec`, then lines `pid N`, `began` and `exit WAIT_STATUS USER SYSTEM
MAXRSS`. When the program has exited, it stays for as long as anything is left below it: daemons that are left alone
outlive the worker and the host. When the worker dies before that, or while it ends the run, the shim kills everything
below it.
"""

import os
import select
import signal
import time

from ..kernel.launcher import code_of
from ..kernel.prctl import be_visible, become_subreaper, hear_of_parents_death
from ..kernel.roundup import Roundup

TYPE_CHECKING = False  # `typing` takes 7 ms to import
if TYPE_CHECKING:
    from collections.abc import Callable

# Real-time signals, which no program sends to its own group. (Only Linux has shims.)
_LAST = getattr(signal, "SIGRTMAX", signal.SIGUSR2)
ORPHANED = _LAST - 1  # what the kernel sends when the worker dies
ENDED = _LAST  # what the worker sends when it ends the run: then nothing may stay, even if the worker dies
STEP = 0.002  # seconds between looks at what is to be killed
KILL_FOR = 10.0  # seconds; what is left then is left to the kernel


def supervise(worker: int, status: int, start: "Callable[[int], None]") -> None:
    """Start the program as a child, in this process group, and stay until nothing of it is left; never returns.

    Args:
        worker: Pid of the parent.
        status: Where to report.
        start: Becomes the program, in the child; it reports to the descriptor that it is given.
    """
    try:
        Shim(worker, status).run(start)
    except Exception as failure:
        os.write(status, b"error program %d\n" % code_of(failure))
    finally:
        os._exit(127)  # whoever has said how the program ended is not asked for a status of its own


class Shim:
    """The parent of one program.

    Args:
        worker: Pid of the parent.
        status: Where to report.
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
        """Start the program, and stay."""
        be_visible()  # it never becomes a program, and the worker has to see what is below it
        become_subreaper()
        self._words, words_end = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            signal.set_wakeup_fd(-1)
            start(words_end)
        self._close_others()
        # What is meant for the group is for the program: a shim outlives every signal but KILL.
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(ORPHANED, self._on_orphaned)
        signal.signal(ENDED, self._on_ended)
        hear_of_parents_death(ORPHANED)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if os.getppid() != self._worker:
            self._orphaned = True
        self._say(b"pid %d\n" % self._pid)
        self._watch()

    def _on_orphaned(self, *_: object) -> None:
        self._orphaned = self._orphaned or os.getppid() != self._worker

    def _on_ended(self, *_: object) -> None:
        self._ended = True

    def _close_others(self) -> None:
        """Hold nothing open that is the program's, or the worker's."""
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
            return  # the worker is gone, or has heard enough

    def _watch(self) -> None:
        """Pass on what the child says, and see it exit, until no child is left."""
        while self._reap():
            if self._orphaned and (self._pid or self._ended):
                self._kill_all()
                return
            poll = select.poll()  # select(2) takes no descriptors above 1,023
            poll.register(self._wakeup, select.POLLIN)
            if self._words >= 0:
                poll.register(self._words, select.POLLIN)
            readable = [fd for fd, _ in poll.poll()]
            if self._wakeup in readable:
                os.read(self._wakeup, 4096)
            if self._words in readable:
                self._pass_on()

    def _pass_on(self) -> bool:
        """Pass on what the child has said; whether there may be more. It ends with its `exec`, or its exit."""
        said = os.read(self._words, 4096)
        self._say(said or b"began\n")
        if not said:
            os.close(self._words)
            self._words = -1
        return bool(said)

    def _reap(self) -> bool:
        """Reap who has exited; whether a child is left."""
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
