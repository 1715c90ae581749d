"""`Guardian`: the host's side of the process that ends what workers leave if they and the host are all killed at once.

It is forked by a worker, and seen to be alive by a pipe that only it holds. See `standalone/guardian.py`.
"""

import asyncio
import contextlib
import os
import select
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable

from aiocmdpool.backends.workers.private import keep_out_of, keep_private
from aiocmdpool.standalone import guardian
from aiocmdpool.standalone.kernel import processes as procs
from aiocmdpool.system.launch import above_standard
from aiocmdpool.system.reaping import reap_later, try_reap

REAP_FOR = 0.003  # seconds on the loop; it exits in less than a millisecond


class Guardian:
    """A guardian for the workers that were started as one user, which it must be able to signal.

    Args:
        died: Called when it has died, or could not be started: the next worker that starts brings another.
        after: How many workers are started before the one that brings it: the first command is not to wait for that.
    """

    def __init__(self, died: Callable[[], None], after: int = 0) -> None:
        self._after = after
        self._loop: asyncio.AbstractEventLoop | None = None  # that of the first worker
        self._died = died
        self._workers: dict[int, bytes] = {}  # the notes of those that live, by pid
        self._left: dict[tuple[int, int], bytes] = {}  # the notes of what may stay, by pid and start
        self._unwritten: deque[bytes] = deque()
        self._handles = Handles()
        self._is_another = False
        self._retired = False
        self.pid = 0
        """0 until it has said its pid, and after its death."""
        keep_out_of(self)
        weakref.finalize(self, self._handles.close).atexit = False

    @property
    def is_missing(self) -> bool:
        """Whether there is none, nor one on its way."""
        return self._handles.alive < 0

    def descriptors(self, theirs: contextlib.ExitStack) -> list[int]:
        """What a new worker has to be given: the pipe for notes; and, if the guardian is missing, all to start one.

        Args:
            theirs: Closes what is the worker's alone.

        Raises:
            OSError: There are no descriptors left.
        """
        handles = self._handles
        if handles.notes < 0:
            handles.notes_end, handles.notes = _pipe()  # the reading end is kept for a guardian to come
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
        """A worker has been started."""
        self._workers[pid] = guardian.note_worker(pid, cookie, group)
        self._note(self._workers[pid])

    def gone(self, pid: int) -> None:
        """A worker is dead, and nothing of it is left."""
        if self._workers.pop(pid, None) is not None:
            self._note(guardian.note_gone(pid))
        self._leave_if_idle()

    def left(self, pid: int, started: int) -> None:
        """Note a shim that stays. The worker has told the guardian; one that is to come has to hear it, too."""
        self._left = {key: note for key, note in self._left.items() if procs.is_alive(*key)}
        self._left[pid, started] = guardian.note_left(pid, started)

    def retire(self) -> None:
        """Have it leave as soon as no worker of its own is left. Harmless when repeated."""
        self._retired = True
        self._leave_if_idle()

    def abandon(self) -> None:
        """Let go of it, whose loop is closed. It leaves by itself when its workers are gone. Harmless when repeated."""
        self._retired = True
        self._handles.close()

    def move(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hear of it on another loop from here on."""
        if self._loop is not None and self._handles.alive >= 0:
            self._loop.remove_reader(self._handles.alive)
            loop.add_reader(self._handles.alive, self._heard)
            self._loop = loop

    def close_in_fork(self) -> None:
        """Let go of it: it is that of the parent of this forked process."""
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
        """Write a note, behind those that found no room while nobody was reading."""
        if self._handles.notes < 0:
            return  # abandoned, or this is a fork of the host
        self._unwritten.append(note)
        with contextlib.suppress(BlockingIOError):
            while self._unwritten:
                os.write(self._handles.notes, self._unwritten[0])  # whole or not at all: it is shorter than PIPE_BUF
                self._unwritten.popleft()

    def _heard(self) -> None:
        """It has said its pid, or died."""
        try:
            word = os.read(self._handles.alive, 64)
        except BlockingIOError:
            return
        if word:
            pid = word.split(b"\n")[0]
            if self.pid or not pid.isdigit():  # somebody else has found this pipe
                return
            self.pid = int(pid)
            if self._is_another:  # another may have read the notes
                self._unwritten.clear()
                for note in (*self._left.values(), *self._workers.values()):
                    self._note(note)
            return
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
        """Read its pid, waiting at most `seconds` for that."""
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
    """The descriptors of this process that belong to a guardian; -1 is none."""

    def __init__(self) -> None:
        self.notes = self.notes_end = self.alive = -1
        _all_handles.add(self)
        keep_private(self)

    def private(self) -> Iterable[int]:
        """For `keep_private`."""
        return self.notes, self.notes_end, self.alive

    def close(self) -> None:
        """Let go of it: it leaves when its workers are gone. Harmless when repeated."""
        for fd in (self.notes, self.notes_end, self.alive):
            if fd >= 0:
                os.close(fd)
        self.notes = self.notes_end = self.alive = -1

    def close_in_fork(self) -> None:
        """Do not keep the guardian waiting: this process is a copy of the host, and may outlive it."""
        if self.notes >= 0:
            os.close(self.notes)
            self.notes = -1


def _pipe() -> tuple[int, int]:
    """A pipe whose numbers the standard streams of a child do not replace."""
    reading, writing = os.pipe()
    try:
        reading = above_standard(reading)
    except OSError:  # no descriptors left
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
    """Reap a guardian that has just let go of everything, if its orphan came to this process: the first of a container.

    Otherwise it is none of its children.
    """
    deadline = time.monotonic() + REAP_FOR
    with contextlib.suppress(ChildProcessError):
        while try_reap(pid) is None:
            if time.monotonic() > deadline:
                reap_later(pid)
                return
            time.sleep(0.0005)
