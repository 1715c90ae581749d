"""`PoolTaskOwner`: what the facade's task handles need from their pool: cancelling tasks, and waiting in a thread."""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from aiocmdpool.commands.errors import PoolClosed
from aiocmdpool.sync.binding import Binding, Life
from aiocmdpool.sync.on_loop import CommandPool, CommandPoolSeg
from aiocmdpool.sync.process_wide import stay_or_leave_at_exit
from aiocmdpool.tasks.handle import TaskHandle
from aiocmdpool.tasks.listeners import Listener, Listeners
from aiocmdpool.tasks.thread_handle import running_loop

if TYPE_CHECKING:
    import asyncio


def start(binding: "Binding[CommandPool] | Binding[CommandPoolSeg]") -> None:
    """Start the pool of `binding`, for whose tasks a thread waits, unless it was started."""
    pool = binding.pool
    if not pool.is_started():
        with suppress(PoolClosed):  # stopped just now, so its tasks are settled
            binding.await_(pool.start_executor)


class PoolTaskOwner:
    """The pool of a handle, in one of its lives; see `tasks.thread_handle.ThreadOwner`.

    Args:
        facade: The pool of the facade; a reference keeps it open while somebody may wait for its tasks.
        binding: The binding of that pool.
        life: The life in which the handle was made.
    """

    __slots__ = ("_binding", "_facade", "_life")

    def __init__(self, facade: object, binding: Binding[CommandPool], life: Life[CommandPool]) -> None:
        self._facade = facade
        self._binding = binding
        self._life = life

    @property
    def listeners(self) -> Listeners:
        """Return the callbacks of those who wait for tasks of that life."""
        listeners = self._life.pool.listeners
        assert listeners is not None  # set together with the function that makes handles
        return listeners

    @property
    def loop(self) -> "asyncio.AbstractEventLoop":
        """Return the event loop of the pool."""
        assert self._life.background is not None  # handles are made on its loop
        return self._life.background.loop

    def call_on_loop(self, callback: Callable[[], object]) -> bool:
        """Schedule `callback` on the loop; return `False` if the loop is closed."""
        try:
            self.loop.call_soon_threadsafe(callback)
        except RuntimeError:
            return False
        return True

    def tell(self, listener: Listener) -> None:
        """Call a listener; on the loop in the next iteration, when the runner has released the handle and the pool."""
        if running_loop() is self.loop:
            self.loop.call_soon(listener)
        else:
            listener()

    def check_served(self) -> None:
        """Check that the waiters of a task will be notified.

        Raises:
            ExecuteError: The task belongs to the parent of this forked process.
            PoolClosed: The pool has been closed.
        """
        self._life.check()

    def begin_wait(self, handle: TaskHandle) -> None:
        """Start the pool, unless somebody has; see `check_served`."""
        self.check_served()
        start(self._binding)

    def look(self, handle: TaskHandle) -> None:
        """Leave, or stay for good, where the interpreter exits; leave in a child that was forked in this wait."""
        stay_or_leave_at_exit()
        if self._life.is_inherited:
            self._life.check()

    def awaited(self, waiter: "asyncio.Future[None]") -> None:
        """Do nothing: the background thread settles all tasks before its loop ends."""

    def is_served(self) -> bool:
        """Return whether there is a running loop that settles tasks."""
        return not self._life.is_inherited and self.loop.is_running()

    def cancel_soon(self, handle: TaskHandle) -> None:
        """Request the cancellation of the task of `handle`, from any thread."""
        if not self._life.is_inherited:
            self.call_on_loop(lambda: self._life.pool.cancel_task(handle))

    def cancel_task(self, handle: TaskHandle) -> None:
        """Cancel the task of `handle`. A pending task is settled on return, unless a loop runs in this thread."""
        self._life.check()
        here = running_loop()
        if here is self.loop:
            self._life.pool.cancel_task(handle)
        elif here is not None:
            self.cancel_soon(handle)
        else:
            self._binding.call(lambda: self._life.pool.cancel_task(handle))
