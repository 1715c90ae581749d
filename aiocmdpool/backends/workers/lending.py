"""The worker for single commands: nobody's to close, lent to the loop that asks, and lent on when that loop has ended.

    run ── borrow ──┬── the loop has one
                    ├── one whose loop is closed, or runs no more: it is moved to this loop
                    └── a new one: the first of this process, or another loop runs as well

It leaves by itself when nothing has been asked of it for a minute, loop or no loop, and with the process in any case.
After a fork the child has none; the parent's is left alone.
"""

import asyncio
import atexit
import contextlib
import os
import sys
import threading

from aiocmdpool.backends.workers.process_pool import ProcessPool
from aiocmdpool.loops.loop_end import LoopClosed

IDLE_FOR = 60.0  # seconds


class LentPool(ProcessPool):
    """A process pool with one worker, which can go from loop to loop."""

    _idle_for = IDLE_FOR

    def __init__(self) -> None:
        super().__init__(1)
        self._thread = 0
        self._close_watch: LoopClosed | None = None

    def lend(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Lend it to the running loop; whether it is fit for that."""
        if self._loop is not None and not self._crew.move(loop):
            return False
        self._loop, self._pid, self._thread = loop, os.getpid(), threading.get_ident()
        if self._close_watch is not None:
            self._close_watch.cancel()
        self._close_watch = LoopClosed(loop, self._loop_closed)
        return True

    @property
    def is_free(self) -> bool:
        """Whether its loop is closed, or stands still: the thread that ran it runs another one now, or is gone."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return True
        is_here_or_gone = self._thread == threading.get_ident() or self._thread not in sys._current_frames()
        return is_here_or_gone and not loop.is_running()

    def _loop_closed(self) -> None:
        """End what the loop has left running: there is nobody whose it could be."""
        if os.getpid() == self._pid and not self._crew.is_at_rest:
            if self._loop is not None:
                _lent.pop(self._loop, None)
            self.end_soon()

    def end_soon(self) -> None:
        """End it in a thread: that may block, and nobody waits for it."""
        self._closed = True
        thread = threading.Thread(target=self.end, name="aiocmdpool-unused-worker", daemon=True)
        with contextlib.suppress(RuntimeError):  # no threads any more: this process ends, and the worker with it
            thread.start()

    def end(self) -> None:
        """End it. Its loop is closed or stands still. Blocks."""
        self._closed = True
        self._crew.abandon()
        self._ledger.close()

    def close_in_fork(self) -> None:
        """Hold nothing of it: it is that of the parent of this forked process."""
        self._closed = True
        self._crew.close_in_fork()
        self._ledger.close()


# Reentrant: a signal handler, or a loop that is found to be garbage, may come while its own thread is in here.
_lock = threading.RLock()
_lent: dict[asyncio.AbstractEventLoop, LentPool] = {}
_inherited: list[LentPool] = []  # never freed: their descriptors are closed, and the numbers somebody else's


def borrow() -> LentPool:
    """Return the pool that is lent to the running loop."""
    loop = asyncio.get_running_loop()
    return _lent.get(loop) or _lend(loop)


def _lend(loop: asyncio.AbstractEventLoop) -> LentPool:
    with _lock:
        lent: LentPool | None = None
        for owner, pool in list(_lent.items()):
            if not pool.is_free or (lent is not None and pool._crew.is_at_rest):
                continue  # in use, or kept for the next loop
            del _lent[owner]
            if lent is None and pool.lend(loop):
                lent = pool
            else:
                pool.end_soon()
        if lent is None:
            lent = LentPool()
            lent.lend(loop)
        _lent[loop] = lent
        return lent


async def give_up() -> None:
    """End the worker of the running loop, and what it runs; the next command starts another."""
    pool = _lent.pop(asyncio.get_running_loop(), None)
    if pool is not None:
        await pool.aclose()


def end_unused() -> None:
    """End the workers that are lent to no loop any more. Blocks."""
    with _lock:
        for loop, pool in list(_lent.items()):
            if loop.is_closed():
                del _lent[loop]
                pool.end()


atexit.register(end_unused)


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()  # another thread may have held the old one
    for pool in _lent.values():
        pool.close_in_fork()
    _inherited.extend(_lent.values())
    _lent.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
