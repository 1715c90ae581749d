"""What the handles of the facade ask of their pool: to be cancelled, and to be waited for in a thread."""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from aiocmdpool.commands.errors import PoolClosed
from aiocmdpool.sync.binding import Life, Link
from aiocmdpool.sync.on_loop import CommandPool, CommandPoolSeg
from aiocmdpool.sync.process_wide import stay_or_leave_at_exit
from aiocmdpool.tasks.handle import TaskHandle
from aiocmdpool.tasks.listeners import Listener, Listeners
from aiocmdpool.tasks.thread_handle import running_loop

if TYPE_CHECKING:
    import asyncio


def start(link: "Link[CommandPool] | Link[CommandPoolSeg]") -> None:
    """Start a pool for whose tasks a thread waits, unless somebody has."""
    pool = link.pool
    if not pool.is_started():
        with suppress(PoolClosed):  # just now: its tasks are settled
            link.call(pool.start_executor)


class PoolTaskOwner:
    """The pool of a handle, in one of its lives; see `tasks.thread_handle.ThreadOwner`.

    Args:
        facade: The pool of the facade: not to be forgotten, and so closed, while somebody may wait for its tasks.
        link: Of that pool.
        life: In which the handle was made.
    """

    __slots__ = ("_facade", "_life", "_link")

    def __init__(self, facade: object, link: Link[CommandPool], life: Life[CommandPool]) -> None:
        self._facade = facade
        self._link = link
        self._life = life

    @property
    def listeners(self) -> Listeners:
        """Those who wait for the tasks of that life."""
        listeners = self._life.pool.listeners
        assert listeners is not None  # it was given some with the handle
        return listeners

    @property
    def loop(self) -> "asyncio.AbstractEventLoop":
        """The loop of the pool."""
        assert self._life.background is not None  # a handle is made there
        return self._life.background.loop

    def call_on_loop(self, callback: Callable[[], object]) -> bool:
        """Have something called by the loop; return whether it still runs."""
        try:
            self.loop.call_soon_threadsafe(callback)
        except RuntimeError:
            return False
        return True

    def tell(self, listener: Listener) -> None:
        """Call a listener, in the next turn of the loop: by then the runner has let the handle go, and so the pool."""
        if running_loop() is self.loop:
            self.loop.call_soon(listener)
        else:
            listener()

    def begin_wait(self, handle: TaskHandle) -> None:
        """Start the pool, unless somebody has.

        Raises:
            ExecuteError: The task is one of the parent of this forked process.
            PoolClosed: The pool is gone.
        """
        self._life.check()
        start(self._link)

    def look(self) -> None:
        """Leave, or stay for good, where the interpreter exits."""
        stay_or_leave_at_exit()

    def is_served(self) -> bool:
        """Whether there is a loop that settles tasks."""
        return not self._life.is_inherited and self.loop.is_running()

    def cancel_soon(self, handle: TaskHandle) -> None:
        """Have the task cancelled."""
        if not self._life.is_inherited:
            self.call_on_loop(lambda: self._life.pool.cancel_task(handle))

    def cancel_task(self, handle: TaskHandle) -> None:
        """Cancel the task; on return, one that was pending is settled, unless a loop runs here, which must not wait."""
        self._life.check()
        here = running_loop()
        if here is self.loop:
            self._life.pool.cancel_task(handle)
        elif here is not None:
            self.cancel_soon(handle)
        else:
            self._link.ask(lambda: self._life.pool.cancel_task(handle))
