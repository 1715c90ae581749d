"""`Gate`: a gate that one thread opens, once, and others wait at."""

import _thread
import contextlib
import threading
from collections.abc import Callable
from time import monotonic

# Seconds. Two things do not end a futex(2): a signal that reaches the main thread between the interpreter's last check
# and that wait, and an exception that is sent to a thread (PyThreadState_SetAsyncExc, as time limits of task queues
# do). Both are noticed at the next check, which takes some 5 µs.
LOOK_AGAIN = 0.3


class Gate:
    """An event that is set once and stays set, safe in signal handlers.

    Not a `threading.Event`: its inner lock is held for a moment by a thread that begins to wait. If a signal handler
    ran in just that moment and waited for the loop itself, it would block the loop at `set` for good. Here `open` never
    waits. It also takes a tenth of the time.

    Concurrency: any thread may use it at any time, and any signal handler may raise in a wait.
    """

    __slots__ = ("_lock", "is_open")

    def __init__(self) -> None:
        self.is_open = False
        self._lock = _thread.allocate_lock()
        self._lock.acquire()

    def open(self) -> None:
        """Open the gate and let all waiting threads through. Harmless when repeated."""
        self.is_open = True
        self._release()

    def wait(self, seconds: float | None = None, look: Callable[[], object] | None = None) -> bool:
        """Wait until the gate is open, for `seconds` at most; return whether it is.

        Args:
            seconds: Seconds to wait; `None` for no limit.
            look: Called every `LOOK_AGAIN` seconds of the wait; an error that it raises ends the wait.
        """
        until = monotonic() + min(threading.TIMEOUT_MAX if seconds is None else seconds, threading.TIMEOUT_MAX)
        while not self.is_open:
            left = min(until - monotonic(), LOOK_AGAIN)
            try:
                self._lock.acquire(timeout=max(left, 0))
            finally:  # a handler may have raised right after this thread got the lock, for which the next one waits
                if self.is_open:
                    self._release()
            if not self.is_open:
                if until <= monotonic():
                    break
                if look is not None:
                    look()
        return self.is_open

    def _release(self) -> None:
        with contextlib.suppress(RuntimeError):  # another thread was faster
            self._lock.release()
