"""`LoopBound`: the relation of a pool that any thread feeds to its event loop and to its waiters."""

import asyncio
import os
import threading
import weakref
from collections.abc import Callable
from typing import TypeVar

from aiocmdpool.commands.errors import ExecuteError, PoolClosed
from aiocmdpool.pool.lifecycle import PoolLife
from aiocmdpool.pool.runners import PoolTasks
from aiocmdpool.pool.seg_queue import SegQueue
from aiocmdpool.pool.waiters_abroad import WaitersAbroad
from aiocmdpool.tasks.handle import TaskHandle
from aiocmdpool.tasks.listeners import Listener, Listeners
from aiocmdpool.tasks.status import TaskStatus
from aiocmdpool.tasks.thread_handle import running_loop

T = TypeVar("T")

_pools: "weakref.WeakSet[LoopBound]" = weakref.WeakSet()


class LoopBound:
    """Base class of a pool that is made anywhere, and belongs to the loop that starts it; a `ThreadOwner`."""

    _queue: SegQueue
    _tasks: PoolTasks
    _life: PoolLife

    def _belong_to_no_loop(self) -> None:
        """Initialize the pool without a loop; the start binds it to one."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = False
        self._inherited = False
        # Held while tasks are settled without a loop to serialize that; never by a thread that pushes or waits.
        # Reentrant, because the garbage collector may run in the middle and close the loop.
        self._settling = threading.RLock()
        self.listeners = Listeners()
        """Callbacks of those who wait for the tasks of this pool."""
        self._abroad = WaitersAbroad(self._life.check_moving)
        _pools.add(self)

    def _bind(self) -> None:
        """Bind the pool to the running event loop; raise `ExecuteError` if it is bound to another one."""
        loop = asyncio.get_running_loop()
        with self._settling:  # a task cancelled without a loop is settled before this, or else by the loop
            if self._loop is None:
                self._loop = loop
        if self._loop is not loop:
            raise ExecuteError(
                "this pool belongs to another event loop; start and stop it there, and push from anywhere"
            )
        self._life.belong_here()

    def _in_order(self, work: Callable[[], T]) -> T:
        """Call `work` on the loop of the pool; in any thread if there is no loop, before the start or after its end.

        Raises:
            ExecuteError: The loop of the pool is another one than this thread's.
        """
        if self._inherited:
            raise _foreign()
        if self._loop is not None and self._loop is running_loop():
            return work()
        with self._settling:
            if self._loop is not None and self._loop.is_closed():
                self._loop_ended()
            if self._loop is None or self._loop.is_closed():
                return work()
        raise ExecuteError(
            "this is for the loop that the pool belongs to: give it to loop.call_soon_threadsafe, or use the "
            "CommandPoolSeg of aiocmdpool.sync, for which any thread may ask"
        )

    def _sweep(self) -> None:
        """Settle tasks that got into the queue while the pool was stopped."""
        if self._over:
            self._tasks.cancel_all()

    # -- for handles ------------------------------------------------------------------------------------------------

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop that the pool belongs to; only after its start."""
        assert self._loop is not None
        return self._loop

    def call_on_loop(self, callback: Callable[[], object]) -> bool:
        """Schedule `callback` on the loop; return `False` if there is no loop yet, or it is closed."""
        if self._loop is None:
            return False
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            return False
        return True

    def tell(self, listener: Listener) -> None:
        """Call the listener of a task that has just been settled."""
        listener()

    def check_served(self) -> None:
        """Check that the waiters of a task will be notified.

        Raises:
            ExecuteError: The task belongs to the parent of this forked process.
        """
        if self._inherited:
            raise _foreign()

    def begin_wait(self, handle: TaskHandle) -> None:
        """Check that a thread which waits for the task will be notified; see `check_served`."""
        self.check_served()

    def look(self, handle: TaskHandle) -> None:
        """Check that the task of `handle` may still be settled, for a thread that waits for it.

        Raises:
            ExecuteError: This is a child that was forked in the middle of the wait.
            PoolClosed: The loop of the pool stands still, and the thread that ran it is gone.
        """
        self.check_served()
        if not handle.done():
            self._life.check_moving(handle.command)

    def awaited(self, waiter: "asyncio.Future[None]") -> None:
        """Watch `waiter`, on which a coroutine of another loop waits, so that it fails if the loop of the pool ends."""
        if waiter.get_loop() is not self._loop:
            self._abroad.add(waiter)

    def is_served(self) -> bool:
        """Return whether the loop of the pool is running."""
        return not self._inherited and self._loop is not None and self._loop.is_running()

    def cancel_soon(self, handle: TaskHandle) -> None:
        """Request the cancellation of the task of `handle`, from any thread."""
        if not self._inherited:
            self.cancel_task(handle)

    def cancel_task(self, handle: TaskHandle) -> None:
        """Cancel the task of `handle`; `TaskHandle.cancel` is the public way."""
        if self._inherited:
            raise _foreign()
        if self._loop is None:
            with self._settling:
                if self._loop is None:  # before the start, nothing else can end the task
                    if handle.status is TaskStatus.PENDING:
                        self._tasks.cancel_task(handle)
                    return
        if self._loop is running_loop():
            self._tasks.cancel_task(handle)
        elif not self.call_on_loop(lambda: self._tasks.cancel_task(handle)):
            self._loop_ended()

    def _loop_ended(self) -> None:
        """Settle all tasks for the waiting threads, because the loop has ended. For any thread, repeatedly."""
        self._queue.refuse_pushers(_ended)
        self._over = self._life.loop_ended = True
        with self._settling:
            if self._loop is None or self._loop.is_closed():
                self._tasks.abandon()
            else:
                self._tasks.cancel_all()


def _ended() -> PoolClosed:
    return PoolClosed("the event loop of the pool is closed; make a new pool on another one")


def _foreign() -> ExecuteError:
    return ExecuteError("this pool belongs to the parent of this forked process; make a new one here")


def _in_fork() -> None:
    for pool in tuple(_pools):
        pool._inherited = True
        pool._settling = threading.RLock()  # another thread of the parent may have held it
        pool._queue.refuse_pushers(_foreign)


os.register_at_fork(after_in_child=_in_fork)
