"""`BlockingLoop`: a thread that may block waits for pipes, exits and deadlines of its own, and hears other threads.

It has the few methods of an event loop that the rest of this room uses (`Loop`), so one code reads pipes and watches
exits on asyncio, on uvloop and here. Knows no coroutines.
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
    """Calls back in the thread that runs it. All but `call_soon_threadsafe` is for that thread alone.

    poll(2) rather than epoll(7): it takes no descriptor, and a handful of them is all that is ever watched.

    Raises:
        OSError: There are no descriptors left. Nothing stays open then.
    """

    def __init__(self) -> None:
        self._poll = select.poll()
        self._callbacks: dict[int, Callable[[], object]] = {}
        self._timers = Timers()
        self._asked: deque[Callable[[], object]] = deque()
        # Held while the wake-up is written to: once `close` has been, its number may name somebody else's file.
        self._lock = threading.Lock()
        self._hear, self._say = os.pipe()
        os.set_blocking(self._hear, False)
        os.set_blocking(self._say, False)
        self.add_reader(self._hear, self._listen)

    def add_reader(self, fd: int, callback: Callable[[], object]) -> None:
        """Call whenever the descriptor can be read from."""
        self._callbacks[fd] = callback
        self._poll.register(fd, select.POLLIN)

    def add_writer(self, fd: int, callback: Callable[[], object]) -> None:
        """Call whenever the descriptor can be written to."""
        self._callbacks[fd] = callback
        self._poll.register(fd, select.POLLOUT)

    def remove_reader(self, fd: int) -> None:
        """Stop watching a descriptor. Harmless when repeated."""
        if self._callbacks.pop(fd, None) is not None:
            self._poll.unregister(fd)

    remove_writer = remove_reader  # each is watched for one thing only

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call in so many seconds."""
        return self._timers.add(delay, callback)

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        """Have something called in the thread of this loop, from any thread.

        Raises:
            RuntimeError: The loop is closed.
        """
        with self._lock:
            if self._say < 0:
                raise RuntimeError("this loop is closed")
            self._asked.append(callback)
            with contextlib.suppress(BlockingIOError):  # full of wake-ups that are not heard yet
                os.write(self._say, b"\0")

    def run_until(self, over: Callable[[], bool], seconds: float | None = None) -> None:
        """Block, and call back what happens, until something is over, or at most so many seconds."""
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
        """Wait so long (negative: for ever) and call back what is due."""
        happened = self._poll.poll(
            None if seconds < 0 else ceil(min(seconds, LONGEST) * 1000)
        )  # rounded up: never early, no spin
        for fd, _ in happened:
            callback = self._callbacks.get(fd)  # another callback of this turn may have forgotten it
            if callback is not None:
                callback()
        self._timers.fire()

    def _listen(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._hear, 4096)
        while self._asked:  # read before: whoever asks from now on wakes it up again
            self._asked.popleft()()

    def close(self) -> None:
        """Give the descriptors back. Harmless when repeated."""
        with self._lock:
            if self._say < 0:
                return
            self.remove_reader(self._hear)  # which refers to this loop: nothing is left to the garbage collector
            os.close(self._say)
            os.close(self._hear)
            self._say = self._hear = -1
