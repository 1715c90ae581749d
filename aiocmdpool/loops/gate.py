"""A gate that one thread opens, once, and others wait at."""

import _thread
import contextlib
import threading
from collections.abc import Callable
from time import monotonic

# Seconds. Two things do not end a futex(2): a signal that comes to the main thread between the interpreter's last look
# and that wait, and an exception that somebody sends to a thread (PyThreadState_SetAsyncExc, by which time limits of
# task queues work). Both are seen at the next look, which takes some 5 µs.
LOOK_AGAIN = 0.3


class Gate:
    """Closed until it is opened; then open for ever.

    Not a `threading.Event`: the lock inside that one is held for a moment by whoever begins to wait. A signal handler
    that runs in just that moment, and waits for the loop itself, would stop the loop at `set` for good. Here `open`
    never waits for anybody. It also takes a tenth of the time.

    Concurrency: any thread may do anything at any time, and any signal handler may raise in a wait.
    """

    __slots__ = ("_lock", "is_open")

    def __init__(self) -> None:
        self.is_open = False
        self._lock = _thread.allocate_lock()
        self._lock.acquire()

    def open(self) -> None:
        """Let everybody through. Harmless when repeated."""
        self.is_open = True
        self._release()

    def wait(self, seconds: float | None = None, look: Callable[[], object] | None = None) -> bool:
        """Wait until it is open, at most so long; whether it is.

        Args:
            seconds: How long; `None` for as long as it takes.
            look: Called every `LOOK_AGAIN` seconds of the wait; what it raises ends that.
        """
        until = monotonic() + min(threading.TIMEOUT_MAX if seconds is None else seconds, threading.TIMEOUT_MAX)
        while not self.is_open:
            left = min(until - monotonic(), LOOK_AGAIN)
            try:
                self._lock.acquire(timeout=max(left, 0))
            finally:  # a handler may have raised right after this thread was let through: the next one waits for that
                if self.is_open:
                    self._release()
            if not self.is_open:
                if until <= monotonic():
                    break
                if look is not None:
                    look()
        return self.is_open

    def _release(self) -> None:
        with contextlib.suppress(RuntimeError):  # somebody else was faster; open it is
            self._lock.release()
