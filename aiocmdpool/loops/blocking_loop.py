"""`BlockingLoop`: lets a thread that may block wait for its own pipes, exits and deadlines, and for other threads.

It has the few methods of an event loop that this package's readers and watchers use (`Loop`), so the same code reads
pipes and watches exits on asyncio, on uvloop and here. It knows no coroutines.
"""

import contextlib
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from math import ceil
from time import monotonic

from aiocmdpool.standalone.loop.timers import LONGEST, Timer, Timers


class BlockingLoop:
    """A loop of callbacks in the thread that runs it. All but `call_soon_threadsafe` is for that thread alone.

    It uses poll(2) rather than epoll(7): that takes no descriptor, and only a handful is ever watched.

    Raises:
        OSError: There are no free descriptors. Nothing stays open then.
    """

    def __init__(self) -> None:
        self._poll = select.poll()
        self._callbacks: dict[int, Callable[[], object]] = {}
        self._timers = Timers()
        self._asked: deque[Callable[[], object]] = deque()
        # Held while the wake-up is written: after `close`, its number may belong to another file.
        self._lock = threading.Lock()
        self._hear, self._say = os.pipe()
        os.set_blocking(self._hear, False)
        os.set_blocking(self._say, False)
        self.add_reader(self._hear, self._listen)

    def add_reader(self, fd: int, callback: Callable[[], object]) -> None:
        """Call `callback` whenever the descriptor `fd` can be read."""
        self._callbacks[fd] = callback
        self._poll.register(fd, select.POLLIN)

    def add_writer(self, fd: int, callback: Callable[[], object]) -> None:
        """Call `callback` whenever the descriptor `fd` can be written."""
        self._callbacks[fd] = callback
        self._poll.register(fd, select.POLLOUT)

    def remove_reader(self, fd: int) -> None:
        """Stop watching the descriptor `fd`. Harmless when repeated."""
        if self._callbacks.pop(fd, None) is not None:
            self._poll.unregister(fd)

    remove_writer = remove_reader  # each descriptor is watched for one event only

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` in `delay` seconds; return a timer that can be cancelled."""
        return self._timers.add(delay, callback)

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        """Call `callback` in the thread of this loop; may be called from any thread.

        Raises:
            RuntimeError: The loop is closed.
        """
        with self._lock:
            if self._say < 0:
                raise RuntimeError("this loop is closed")
            self._asked.append(callback)
            with contextlib.suppress(BlockingIOError):  # full of wake-ups that have not been read yet
                os.write(self._say, b"\0")

    def run_until(self, over: Callable[[], bool], seconds: float | None = None) -> None:
        """Block and handle events until `over()` is true, for `seconds` at most; `None` for no limit."""
        until = None if seconds is None else monotonic() + seconds
        while not over():
            wait = self._timers.wait()
            if until is not None:
                left = until - monotonic()
                if left <= 0:
                    return
                wait = left if wait < 0 else min(wait, left)
            self._turn(wait)

    def _turn(self, seconds: float) -> None:
        """Wait up to `seconds` (negative: for ever) and make the calls that are due."""
        happened = self._poll.poll(
            None if seconds < 0 else ceil(min(seconds, LONGEST) * 1000)
        )  # rounded up: never early, no spin
        for fd, _ in happened:
            callback = self._callbacks.get(fd)  # another callback of this iteration may have removed it
            if callback is not None:
                callback()
        self._timers.fire()

    def _listen(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._hear, 4096)
        while self._asked:  # read before: a later caller writes a new wake-up
            self._asked.popleft()()

    def close(self) -> None:
        """Close the descriptors. Harmless when repeated."""
        with self._lock:
            if self._say < 0:
                return
            self.remove_reader(self._hear)  # it refers to this loop: break the cycle
            os.close(self._say)
            os.close(self._hear)
            self._say = self._hear = -1
