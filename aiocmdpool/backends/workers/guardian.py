"""`Guardian`: the host's side of the process that ends leftovers when the workers and the host are all killed at once.

A worker forks it, and a pipe that only it holds open shows that it is alive. See `standalone/guardian.py`.
"""

import asyncio
import contextlib
import os
import select
import signal
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable

from aiocmdpool.backends.workers.private import keep_out_of, keep_private
from aiocmdpool.standalone import guardian
from aiocmdpool.standalone.kernel import processes as procs
from aiocmdpool.system.launch import above_standard
from aiocmdpool.system.reaping import reap_later, try_reap

LOOK_EVERY = 0.5  # seconds, at most: each of its workers asks for a look
REAP_FOR = 0.003  # seconds on the loop; it exits in less than a millisecond
_STOPPED = (b"T", b"t")  # by a signal; by a process that traces it (proc_pid_stat(5))


class Guardian:
    """A guardian for the workers that were started as one user, so that it is allowed to signal them.

    Args:
        died: Called when it has died, or could not be started: the next worker that starts forks another.
        after: Number of workers to start before the one that forks it, so that the first command need not wait.
    """

    def __init__(self, died: Callable[[], None], after: int = 0) -> None:
        self._after = after
        self._loop: asyncio.AbstractEventLoop | None = None  # that of the first worker
        self._died = died
        self._workers: dict[int, bytes] = {}  # notes about the living workers, by pid
        self._left: dict[tuple[int, int], bytes] = {}  # notes about processes that may stay, by pid and start time
        self._unwritten: deque[bytes] = deque()
        self._handles = Handles()
        self._is_another = False
        self._retired = False
        self._next_look = 0.0  # by the monotonic clock
        self._was_continued = False  # at the last look
        self.pid = 0
        """Process id of the guardian; 0 until it has reported it, and after its death."""
        keep_out_of(self)
        weakref.finalize(self, self._handles.close).atexit = False

    @property
    def is_missing(self) -> bool:
        """Return whether there is no guardian, and none is being started."""
        return self._handles.alive < 0

    def descriptors(self, theirs: contextlib.ExitStack) -> list[int]:
        """Return the descriptors for a new worker: the pipe for notes, and those to start a missing guardian.

        Args:
            theirs: Stack that closes the descriptors which only the worker needs.

        Raises:
            OSError: This process has no free descriptor numbers.
        """
        handles = self._handles
        if handles.notes < 0:
            handles.notes_end, handles.notes = _pipe()  # the reading end is kept for a later guardian
            os.set_blocking(handles.notes, False)
        if not self.is_missing or self._after > 0:
            self._after -= 1
            return [handles.notes]
        handles.alive, alive_end = _pipe()
        theirs.callback(os.close, alive_end)
        os.set_blocking(handles.alive, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(handles.alive, self._heard)
        return [handles.notes, handles.notes_end, alive_end]

    def started(self, pid: int, cookie: bytes, group: str) -> None:
        """Note that a worker has been started."""
        self._workers[pid] = guardian.note_worker(pid, cookie, group)
        self._note(self._workers[pid])

    def gone(self, pid: int) -> None:
        """Note that a worker is dead, with nothing left of it."""
        if self._workers.pop(pid, None) is not None:
            self._note(guardian.note_gone(pid))
        self._leave_if_idle()

    def left(self, pid: int, started: int) -> None:
        """Note a shim that may stay. The worker has told the present guardian; this is for a later one."""
        self._left = {key: note for key, note in self._left.items() if procs.is_alive(*key)}
        self._left[pid, started] = guardian.note_left(pid, started)

    def look(self) -> None:
        """Check that the guardian runs: continue a stopped one, which notices no death; kill it if that did not help.

        The death of a killed guardian is noticed like any other.
        """
        now = time.monotonic()
        if not self.pid or now < self._next_look:
            return
        self._next_look = now + LOOK_EVERY
        process = procs.look_at(self.pid)
        if process is None or process.name != guardian.NAME or process.state not in _STOPPED:
            self._was_continued = False
        elif process.state == b"T" and not self._was_continued:
            self._was_continued = process.signal(signal.SIGCONT)
        elif not process.signal(signal.SIGKILL):  # it is somebody else's by now
            self._lost()

    def retire(self) -> None:
        """Let the guardian exit as soon as none of its workers is left. Harmless when repeated."""
        self._retired = True
        self._leave_if_idle()

    def abandon(self) -> None:
        """Close the pipes to the guardian, whose loop is closed; it exits when its workers are gone. Repeatable."""
        self._retired = True
        self._handles.close()

    def move(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch the guardian on another event loop from here on."""
        if self._loop is not None and self._handles.alive >= 0:
            self._loop.remove_reader(self._handles.alive)
            loop.add_reader(self._handles.alive, self._heard)
            self._loop = loop

    def close_in_fork(self) -> None:
        """Close the pipes to the guardian in this forked child: it belongs to the parent."""
        self._handles.close()

    def _leave_if_idle(self) -> None:
        if self._retired and not self._workers and self._handles.notes >= 0:
            if not self.pid:  # it is being started, or has said its pid since the loop's last look
                self._listen(REAP_FOR)
            self._note(guardian.BYE)
            self._unwatch()
            self._handles.close()
            if self.pid:
                _reap(self.pid)

    def _note(self, note: bytes) -> None:
        """Write a note, after those that the full pipe did not take before."""
        if self._handles.notes < 0:
            return  # abandoned, or a fork of the host
        self._unwritten.append(note)
        with contextlib.suppress(BlockingIOError):
            while self._unwritten:
                os.write(self._handles.notes, self._unwritten[0])  # atomic: it is shorter than PIPE_BUF
                self._unwritten.popleft()

    def _heard(self) -> None:
        """Handle the pid that the guardian reports, or its death."""
        try:
            word = os.read(self._handles.alive, 64)
        except BlockingIOError:
            return
        if word:
            pid = word.split(b"\n")[0]
            if self.pid or not pid.isdigit():  # another process has found this pipe
                return
            self.pid = int(pid)
            if self._is_another:  # a former guardian may have read the notes
                self._unwritten.clear()
                for note in (*self._left.values(), *self._workers.values()):
                    self._note(note)
            return
        self._lost()

    def _lost(self) -> None:
        """Forget the guardian, which is dead or must count as dead, and request another one."""
        self._unwatch()
        os.close(self._handles.alive)
        self._handles.alive = -1
        if self.pid:
            _reap(self.pid)
        self.pid = 0
        self._is_another = True
        if not self._retired:
            self._died()

    def _listen(self, seconds: float) -> None:
        """Read the pid that the guardian reports, waiting for it for at most `seconds`."""
        if self._handles.alive >= 0:
            poll = select.poll()
            poll.register(self._handles.alive, select.POLLIN)
            if poll.poll(seconds * 1000):
                self._heard()

    def _unwatch(self) -> None:
        if self._loop is not None and self._handles.alive >= 0:
            self._loop.remove_reader(self._handles.alive)

    def __repr__(self) -> str:
        return f"<Guardian {self.pid or 'missing'} of {len(self._workers)} workers>"


class Handles:
    """The descriptors of this process that belong to a guardian; -1 for none."""

    def __init__(self) -> None:
        self.notes = self.notes_end = self.alive = -1
        _all_handles.add(self)
        keep_private(self)

    def private(self) -> Iterable[int]:
        """Return the open descriptors that no program may get, for `keep_private`."""
        return self.notes, self.notes_end, self.alive

    def close(self) -> None:
        """Close all pipes to the guardian, which exits when its workers are gone. Harmless when repeated."""
        for fd in (self.notes, self.notes_end, self.alive):
            if fd >= 0:
                os.close(fd)
        self.notes = self.notes_end = self.alive = -1

    def close_in_fork(self) -> None:
        """Close the pipe for notes: this forked child may outlive the host, and the guardian must not wait for it."""
        if self.notes >= 0:
            os.close(self.notes)
            self.notes = -1


def _pipe() -> tuple[int, int]:
    """Return a pipe with descriptor numbers above 2, which the standard streams of a child do not replace."""
    reading, writing = os.pipe()
    try:
        reading = above_standard(reading)
    except OSError:  # no free descriptor numbers
        os.close(writing)
        raise
    try:
        return reading, above_standard(writing)
    except OSError:
        os.close(reading)
        raise


_all_handles: weakref.WeakSet[Handles] = weakref.WeakSet()


def _close_in_fork() -> None:
    for handles in list(_all_handles):
        handles.close_in_fork()


os.register_at_fork(after_in_child=_close_in_fork)


def _reap(pid: int) -> None:
    """Reap a guardian that has just closed its pipes if this process adopts orphans, as the first one of a container.

    Otherwise it is no child of this process.
    """
    deadline = time.monotonic() + REAP_FOR
    with contextlib.suppress(ChildProcessError):
        while try_reap(pid) is None:
            if time.monotonic() > deadline:
                reap_later(pid)
                return
            time.sleep(0.0005)
