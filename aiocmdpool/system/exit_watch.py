"""Calls back on a loop when a child has exited, without reaping it.

Three implementations of one contract: `watch_exit(loop, pid, on_exit)` calls `on_exit` once on the loop when the child
is a zombie; `close()` of the returned object cancels that. The caller reaps. Until it does, the pid cannot be reused,
so a signal never reaches another process (cpython#127049).

- Linux: a pidfd becomes readable at the exit (pidfd_open(2)).
- macOS and BSD: a kqueue with EVFILT_PROC, itself a descriptor the loop can watch (kqueue(2)).
- elsewhere, and without free descriptors: a thread in `waitid(WNOWAIT)`.

A traced child is dead before its parent may reap it: as a rule the tracer (`strace -D`) lets go of it at once, and it
is given a moment. If it does not let go, `on_exit` is called all the same.
"""

import contextlib
import os
import select
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Protocol

from aiocmdpool.loops.loop import Loop, Timer
from aiocmdpool.system.fork import keep_from_forks
from aiocmdpool.system.reaping import is_reapable

TRACER_TIMEOUT = 0.5  # seconds for a tracer to let go of a dead child
FIRST_LOOK = 0.001  # seconds before the first check; doubles each time


class ExitWatch(Protocol):
    """A notification about the exit of one process, pending until it is made or closed.

    Attributes:
        descriptor: The descriptor that it watches; -1 if it needs none.
    """

    descriptor: int

    def close(self) -> None:
        """Cancel the notification. Harmless when repeated, or after the exit."""


def watch_exit(
    loop: Loop,
    pid: int,
    on_exit: Callable[[], None],
    close: Callable[[int], None] = os.close,
) -> ExitWatch:
    """Call `on_exit()` on `loop` once the child `pid` has exited; the child is not reaped.

    Args:
        loop: The loop to call on.
        pid: Process id of the child.
        on_exit: The function to call.
        close: Function that closes the descriptor of the watch.
    """
    try:
        fd = _exit_descriptor(pid)
    except OSError:  # ENOSYS (old kernel, sandbox), EMFILE, …: a thread needs no descriptor
        return _ThreadWatch(loop, pid, on_exit)
    return _DescriptorWatch(loop, pid, fd, on_exit, close)


def _exit_descriptor(pid: int) -> int:
    """Return a descriptor that becomes readable when the process `pid` exits."""
    if hasattr(os, "pidfd_open"):
        return os.pidfd_open(pid)
    if sys.platform != "linux" and hasattr(select, "kqueue"):
        queue = select.kqueue()
        with contextlib.closing(queue):
            event = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
            queue.control([event], 0)
            return os.dup(queue.fileno())
    raise OSError("no exit descriptors on this system")


class _DescriptorWatch:
    __slots__ = ("__weakref__", "_close", "_delay", "_loop", "_on_exit", "_pid", "_timer", "descriptor")

    def __init__(
        self, loop: Loop, pid: int, fd: int, on_exit: Callable[[], None], close: Callable[[int], None]
    ) -> None:
        self._loop = loop
        self._pid = pid
        self._delay = FIRST_LOOK
        self._timer: Timer | None = None
        self.descriptor = fd
        self._on_exit = on_exit
        self._close = close
        keep_from_forks(self)  # whose loop shares the epoll set, and would take it off there
        loop.add_reader(fd, self._exited)

    def held(self) -> Iterable[int]:
        """Return the descriptor that a forked child must not share, for `keep_from_forks`."""
        return (self.descriptor,)

    def _exited(self) -> None:
        if self._delay < TRACER_TIMEOUT and not is_reapable(self._pid):
            self._loop.remove_reader(self.descriptor)  # it stays readable
            self._timer = self._loop.call_later(self._delay, self._exited)
            self._delay *= 2
            return
        self.close()
        self._on_exit()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.descriptor >= 0:
            self._loop.remove_reader(self.descriptor)
            self._close(self.descriptor)
            self.descriptor = -1


class _ThreadWatch:
    def __init__(self, loop: Loop, pid: int, on_exit: Callable[[], None], *_: object) -> None:
        self.descriptor = -1
        self._loop = loop
        self._pid = pid
        self._on_exit: Callable[[], None] | None = on_exit
        self._thread = threading.Thread(target=self._wait, name=f"aiocmdpool-exit-{pid}", daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        with contextlib.suppress(ChildProcessError):  # other code has reaped it, so it has exited
            os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(self._exited)

    def _exited(self) -> None:
        self._thread.join()  # it has nothing left to do
        on_exit, self._on_exit = self._on_exit, None
        if on_exit is not None:
            on_exit()

    def close(self) -> None:
        self._on_exit = None
