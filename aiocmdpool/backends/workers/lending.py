"""`LentPool`: the worker for single commands, lent to the loop that asks, and lent on when that loop has ended.

    run ── borrow ──┬── the loop has one
                    ├── one at rest whose loop is closed, or stands still: it is moved to this loop
                    └── a new one: the first of this process, or another loop runs as well

The worker exits by itself when it has had no request for a minute, with or without a loop, and with the process in any
case. A loop that stands still may run again: its commands go on, and until they have ended the worker remains its own.
A forked child has none; the parent's is left alone.
"""

import asyncio
import atexit
import contextlib
import functools
import os
import threading
import weakref

from aiocmdpool.backends.workers.process_pool import ProcessPool
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.loops.loop_end import LoopClosed
from aiocmdpool.loops.loop_thread import LoopThread

IDLE_FOR = 60.0  # seconds without a request after which the worker exits


class LentPool(ProcessPool):
    """A process pool with one worker, which can be moved from one event loop to another."""

    _idle_for = IDLE_FOR

    def __init__(self) -> None:
        super().__init__(1)
        self._loop_thread: LoopThread | None = None
        self._calls = 0
        self._close_watch: LoopClosed | None = None

    async def execute(self, command: CommandConfig, *, control: RunControl | None = None) -> CommandResult:
        """Run `command` to its end and return its result; see `ProcessPool.execute`."""
        self._calls += 1  # counted, because the call waits on this loop
        try:
            return await super().execute(command, control=control)
        finally:
            self._calls -= 1

    def lend(self, loop: asyncio.AbstractEventLoop) -> None:
        """Lend the pool to `loop`, which is running. The pool is new, or idle and free."""
        if self._loop is not None:
            self._crew.move(loop)
        self._loop, self._pid, self._loop_thread = loop, os.getpid(), LoopThread(loop)
        if self._close_watch is not None:
            self._close_watch.cancel()
        self._close_watch = LoopClosed(loop, functools.partial(self._loop_closed, loop))

    @property
    def is_at_rest(self) -> bool:
        """Return whether no call of the pool is under way; its worker may have exited."""
        return self._calls == 0 and self._crew.is_at_rest

    @property
    def is_of_use(self) -> bool:
        """Return whether another loop could use the pool: it is idle, and its worker is alive."""
        return self.is_at_rest and not self._crew.has_dead

    @property
    def is_free(self) -> bool:
        """Return whether the loop of the pool is closed or stands still.

        It stands still if the thread that ran it runs another one now, or is gone.
        """
        loop, thread = self._loop, self._loop_thread
        if loop is None or thread is None or loop.is_closed():
            return True
        return thread.is_gone or (thread.is_here and not loop.is_running())

    def _loop_closed(self, loop: asyncio.AbstractEventLoop) -> None:
        """End what the closed loop has left running; an idle pool is kept for the next loop."""
        if os.getpid() != self._pid:
            return
        with _lock:
            # Another thread may have noticed the closed loop first, and have lent the pool to another one.
            if self._loop is not loop or self._closed:
                return
            _owing.discard(self)
            if self.is_of_use:
                _lent[loop] = self  # for the next loop
            else:
                _lent.pop(loop, None)
                self.end_soon()

    def end_soon(self) -> None:
        """End the pool in a thread, because that may block and nobody waits for it."""
        self._closed = True
        thread = threading.Thread(target=self.end, name="aiocmdpool-unused-worker", daemon=True)
        with contextlib.suppress(RuntimeError):  # no new threads: this process exits, and the worker with it
            thread.start()

    def end(self) -> None:
        """End the pool, whose loop is closed. (A loop that stands still would fail if it ran again.) Blocks."""
        self._closed = True
        self._crew.abandon()
        self._ledger.close()


# Reentrant, because a signal handler or a finalizer of a loop may run in the thread that holds it.
_lock = threading.RLock()
_lent: dict[asyncio.AbstractEventLoop, LentPool] = {}
_owing: weakref.WeakSet[LentPool] = weakref.WeakSet()
"""Pools that were found busy for a loop that stood still; kept alive by the watch on that loop only."""
_inherited: list[LentPool] = []  # never freed: their descriptors are closed, and the numbers may be in use again


def borrow() -> LentPool:
    """Return the pool that is lent to the running loop; lend one to it if there is none."""
    loop = asyncio.get_running_loop()
    return _lent.get(loop) or _lend(loop)


def _lend(loop: asyncio.AbstractEventLoop) -> LentPool:
    with _lock:
        _recall(loop)
        if loop in _lent:  # it was in `_owing`, or another thread was about to take it
            return _lent[loop]
        at_rest = _at_rest()
        # Pools whose worker has exited are reused, too, so there are never more than were in use at one time.
        at_rest.sort(key=lambda each: not each[1].is_of_use)
        for owner, pool in at_rest:
            if _take(owner, pool, loop):
                return pool
        lent = _lent[loop] = LentPool()
        lent.lend(loop)
        return lent


def _recall(loop: asyncio.AbstractEventLoop) -> None:
    """Make pools in `_owing` available again: those that are idle now, and that of `loop`, which runs again."""
    for pool in list(_owing):
        if pool._loop is not None and (pool._loop is loop or pool.is_at_rest):
            _owing.discard(pool)
            _lent[pool._loop] = pool


def _at_rest() -> list[tuple[asyncio.AbstractEventLoop, LentPool]]:
    """Return the pools that can be taken from their loops. End other free ones, or leave them to idle loops."""
    at_rest = []
    for owner, pool in list(_lent.items()):
        if not pool.is_free:
            continue
        if pool.is_of_use or (pool.is_at_rest and not owner.is_closed()):
            at_rest.append((owner, pool))
        elif _lent.pop(owner, None) is pool:
            if owner.is_closed():
                pool.end_soon()
            else:
                _owing.add(pool)
    return at_rest


def _take(owner: asyncio.AbstractEventLoop, pool: LentPool, loop: asyncio.AbstractEventLoop) -> bool:
    """Lend a pool of the loop `owner` to `loop`; return whether that was possible."""
    # Removed first: if another thread runs `owner` from now on, it misses the pool, or the check below sees that.
    if _lent.pop(owner, None) is not pool:  # a signal handler came in between
        return False
    if pool.is_free and pool.is_at_rest:
        pool.lend(loop)
        _lent[loop] = pool
        return True
    _lent[owner] = pool
    return False


async def give_up() -> None:
    """End the worker of the running loop and its commands; the next command starts another worker."""
    loop = asyncio.get_running_loop()
    with _lock:
        _recall(loop)
        pool = _lent.pop(loop, None)
    if pool is not None:
        await pool.aclose()


def end_unused() -> None:
    """End the workers whose loops are closed. Blocks."""
    with _lock:
        for loop, pool in list(_lent.items()):
            if loop.is_closed():
                del _lent[loop]
                pool.end()


atexit.register(end_unused)


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held the old one
    pools = [*_lent.values(), *_owing]
    for pool in pools:
        pool._close_in_fork()
    _inherited.extend(pools)
    _lent.clear()
    _owing.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
