"""Reaps children without waiting for them: those that cannot be reaped now are reaped later.

A dead child that is traced is hidden from its parent until the tracer reaps it or lets go (wait_consider_task in the
kernel's kernel/exit.c): `waitpid` would block for as long as that takes. And a killed process that the kernel holds in
uninterruptible sleep dies only when that ends. No event tells of either, so a thread polls, at long intervals, while
there are any.
"""

import os
import resource
import threading
import time
from collections.abc import Callable

from aiocmdpool.standalone.kernel import procfs
from aiocmdpool.system.safe_log import SafeLog

FIRST_LOOK = 0.01  # seconds before the first check; doubles each time
SELDOM = 2.0  # seconds between checks at most

_log = SafeLog("aiocmdpool.reaping")


def try_reap(pid: int) -> tuple[int, resource.struct_rusage] | None:
    """Reap the child `pid` if that is possible now, and return its wait status and usage; `None` if it is not.

    Raises:
        ChildProcessError: Other code has reaped it, or it is no child of this process.
    """
    reaped, status, usage = os.wait4(pid, os.WNOHANG)
    return (status, usage) if reaped else None


def is_reapable(pid: int) -> bool:
    """Return whether a dead process can be reaped without waiting, or is not for this process to reap."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    except ChildProcessError:
        return True


class _Unreaped:
    """The children of this process that are to be reaped later."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start afresh in a forked child, which has neither these children nor the thread."""
        self._lock = threading.Lock()
        self._children: dict[int, tuple[int, Callable[[], object]]] = {}  # by pid: start in ticks, function to call
        self._added = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, pid: int, then: Callable[[], object]) -> None:
        state = procfs.state_of(pid)
        with self._lock:
            self._children[pid] = (0 if state is None else state[2], then)
        self._added.set()
        self.look_after()

    def look_after(self) -> None:
        """Start the polling thread if there are children and it does not run."""
        with self._lock:
            if not self._children or self._thread is not None:
                return
            self._thread = threading.Thread(target=self._look_again, name="aiocmdpool-reaper", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no more threads now: the next start of a worker tries again
                self._thread = None

    def _look_again(self) -> None:
        delay = FIRST_LOOK
        while True:
            if self._added.wait(delay):
                self._added.clear()
                delay = FIRST_LOOK
                time.sleep(delay)
            delay = min(2 * delay, SELDOM)
            with self._lock:
                children = list(self._children.items())
            for pid, (started, then) in children:
                if _is_gone(pid, started):
                    with self._lock:
                        del self._children[pid]
                    _call(then)
            with self._lock:
                if not self._children:
                    self._thread = None
                    return


def _call(then: Callable[[], object]) -> None:
    try:
        then()
    except Exception:
        _log.exception("what was to follow the death of a process failed")


def _is_gone(pid: int, started: int) -> bool:
    """Reap a child if possible; return whether it is gone. Its pid may belong to another child by now."""
    state = procfs.state_of(pid)
    if started and state is not None and state[2] != started:
        return True
    try:
        return try_reap(pid) is not None
    except ChildProcessError:
        return True


_unreaped = _Unreaped()
os.register_at_fork(after_in_child=_unreaped.forget)


def reap_later(pid: int, then: Callable[[], object] = lambda: None) -> None:
    """Reap the child `pid` as soon as that is possible, and call `then()` afterwards, in some thread.

    Concurrency: harmless from any thread and any loop; it outlives them.
    """
    _unreaped.add(pid, then)


def reap_the_unreaped() -> None:
    """Start the polling thread of `reap_later` if that was not possible before."""
    _unreaped.look_after()
