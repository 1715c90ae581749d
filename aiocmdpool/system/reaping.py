"""Reaps children without ever waiting for one: those that cannot be reaped now are reaped later.

A dead child that somebody traces is hidden from its parent until the tracer reaps it or lets go (wait_consider_task in
the kernel's kernel/exit.c): `waitpid` would block for as long as that takes. And a killed process that the kernel holds
in uninterruptible sleep dies when that ends. No event tells of either, so a thread looks, seldom, while there are any.
"""

import os
import resource
import threading
import time
from collections.abc import Callable

from aiocmdpool.standalone.kernel import processes as procs
from aiocmdpool.system.safe_log import SafeLog

FIRST_LOOK = 0.01  # seconds; doubles each time
SELDOM = 2.0  # seconds

_log = SafeLog("aiocmdpool.reaping")


def try_reap(pid: int) -> tuple[int, resource.struct_rusage] | None:
    """Reap a child if it can be reaped now; its wait status and usage, `None` if it cannot.

    Raises:
        ChildProcessError: Somebody else has reaped it, or it is nobody's child here.
    """
    reaped, status, usage = os.wait4(pid, os.WNOHANG)
    return (status, usage) if reaped else None


def is_reapable(pid: int) -> bool:
    """Whether a dead process keeps nobody waiting: it can be reaped, or that is not up to this process."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    except ChildProcessError:
        return True


class _Unreaped:
    """The children of this process that are to be reaped later."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew: a fork of this process has neither its children nor the thread."""
        self._lock = threading.Lock()
        self._children: dict[int, tuple[int, Callable[[], object]]] = {}  # by pid: start in ticks, what to call then
        self._added = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, pid: int, then: Callable[[], object]) -> None:
        state = procs.state_of(pid)
        with self._lock:
            self._children[pid] = (0 if state is None else state[2], then)
        self._added.set()
        self.look_after()

    def look_after(self) -> None:
        """See to it that somebody looks, if there is anything to look for."""
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
    """Reap a child if it can be; whether it is no more. Another child may have been given its number since."""
    state = procs.state_of(pid)
    if started and state is not None and state[2] != started:
        return True
    try:
        return try_reap(pid) is not None
    except ChildProcessError:
        return True


_unreaped = _Unreaped()
os.register_at_fork(after_in_child=_unreaped.forget)


def reap_later(pid: int, then: Callable[[], object] = lambda: None) -> None:
    """Reap a child as soon as that is possible, and call `then()` afterwards, in some thread.

    Concurrency: harmless from any thread and any loop; it outlives them.
    """
    _unreaped.add(pid, then)


def reap_the_unreaped() -> None:
    """Go on with what `reap_later` was asked for, if the thread for it could not be started then."""
    _unreaped.look_after()
