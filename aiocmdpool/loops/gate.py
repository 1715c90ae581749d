"""A gate that one thread opens, once, and others wait at."""

import _thread
import contextlib
import threading
from time import monotonic

# Seconds. A signal that comes between the interpreter's last look and the futex(2) of the main thread, where handlers
# run, does not end that wait; it is seen at the next look.
LOOK_AGAIN = 0.5


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

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is open, at most so long; whether it is."""
        until = None if seconds is None else monotonic() + seconds
        longest = LOOK_AGAIN if threading.get_ident() == threading.main_thread().ident else threading.TIMEOUT_MAX
        while not self.is_open:
            left = longest if until is None else min(until - monotonic(), longest)
            try:
                self._lock.acquire(timeout=max(left, 0))
            finally:  # a handler may have raised right after this thread was let through: the next one waits for that
                if self.is_open:
                    self._release()
            if until is not None and until <= monotonic():
                break
        return self.is_open

    def _release(self) -> None:
        with contextlib.suppress(RuntimeError):  # somebody else was faster; open it is
            self._lock.release()
