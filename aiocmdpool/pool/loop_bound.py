"""What a pool that any thread feeds has to do with its loop, and with those who wait for its tasks."""

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
from aiocmdpool.tasks.handle import TaskHandle
from aiocmdpool.tasks.listeners import Listener, Listeners
from aiocmdpool.tasks.status import TaskStatus
from aiocmdpool.tasks.thread_handle import running_loop

T = TypeVar("T")

_pools: "weakref.WeakSet[LoopBound]" = weakref.WeakSet()


class LoopBound:
    """A pool that is made anywhere, and belongs to the loop that starts it. It is the `ThreadOwner` of its handles."""

    _queue: SegQueue
    _tasks: PoolTasks
    _life: PoolLife

    def _belong_to_no_loop(self) -> None:
        """Begin; the loop comes later, or never."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = False
        self._inherited = False
        # Held by who settles tasks where no loop keeps order: never by those who push or wait. Reentrant, because the
        # garbage collector may come by in the middle and close the loop.
        self._settling = threading.RLock()
        self.listeners = Listeners()
        """Those who wait for its tasks."""
        _pools.add(self)

    def _bind(self) -> None:
        """Belong to the loop that runs."""
        loop = asyncio.get_running_loop()
        with self._settling:  # a task that is cancelled without a loop is settled before, or by the loop
            if self._loop is None:
                self._loop = loop
        if self._loop is not loop:
            raise ExecuteError(
                "this pool belongs to another event loop; start and stop it there, and push from anywhere"
            )
        self._life.belong_here()

    def _in_order(self, work: Callable[[], T]) -> T:
        """Do what is for the loop alone; for anybody, where there is no loop to do it: before the start, after its end.

        Raises:
            ExecuteError: The loop of the pool is another one.
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
        """Settle what got into the queue as the pool was stopped."""
        if self._over:
            self._tasks.cancel_all()

    # -- for handles ------------------------------------------------------------------------------------------------

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where it belongs, once it was started."""
        assert self._loop is not None
        return self._loop

    def call_on_loop(self, callback: Callable[[], object]) -> bool:
        """Have something called by the loop. `False` if there is no loop yet, or no more."""
        if self._loop is None:
            return False
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            return False
        return True

    def tell(self, listener: Listener) -> None:
        """Call a listener of a task that has just been settled."""
        listener()

    def begin_wait(self, handle: TaskHandle) -> None:
        """Check that a thread which waits for the task will be told.

        Raises:
            ExecuteError: It is a task of the parent of this process.
        """
        if self._inherited:
            raise _foreign()

    def look(self) -> None:
        """There is nothing that a waiting thread has to look after."""

    def is_served(self) -> bool:
        """Whether its loop runs."""
        return self._loop is not None and self._loop.is_running()

    def cancel_soon(self, handle: TaskHandle) -> None:
        """Have a task cancelled, from any thread."""
        if not self._inherited:
            self.cancel_task(handle)

    def cancel_task(self, handle: TaskHandle) -> None:
        """Cancel a task of this pool; `TaskHandle.cancel` is the public way."""
        if self._inherited:
            raise _foreign()
        if self._loop is None:
            with self._settling:
                if self._loop is None:  # nobody else can do anything to it
                    if handle.status is TaskStatus.PENDING:
                        self._tasks.cancel_task(handle)
                    return
        if self._loop is running_loop():
            self._tasks.cancel_task(handle)
        elif not self.call_on_loop(lambda: self._tasks.cancel_task(handle)):
            self._loop_ended()

    def _loop_ended(self) -> None:
        """Nobody comes any more: settle everything, for the threads that wait. For any thread, any number of times."""
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
        pool._settling = threading.RLock()  # another thread may have held it
        pool._queue.refuse_pushers(_foreign)


os.register_at_fork(after_in_child=_in_fork)
