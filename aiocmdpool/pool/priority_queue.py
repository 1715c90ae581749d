"""The bounded queue of a pool: by priority, and first come first served within one priority."""

import asyncio
import contextlib
import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Protocol

from aiocmdpool.commands.errors import ExecuteError, QueueFull
from aiocmdpool.tasks.handle import TaskHandle

_COMPACT_AT = 64  # withdrawn entries from which on removing them can pay off
_REFUSED_AT_ONCE = 100  # pushers per loop iteration; the rest follow in the next ones


class PoolQueue(Protocol):
    """The interface of a queue that the rest of a pool uses."""

    @property
    def max_size(self) -> int | None:
        """Return the most tasks that the queue may hold; `None` for no limit."""

    def __len__(self) -> int: ...

    def uncounted(self) -> int:
        """Return the number of queued tasks that the pool has not counted yet."""

    def put(self, handle: TaskHandle, /) -> None:
        """Put the task of `handle` into the queue."""

    async def get(self) -> TaskHandle:
        """Wait for the next wanted task, remove it and return it."""
        ...

    def get_nowait(self) -> TaskHandle | None:
        """Remove and return the next wanted task; `None` if there is none."""

    def withdrawn(self, handle: TaskHandle, /) -> None:
        """Record that a task in the queue is not wanted any more."""

    def take_all(self) -> tuple[int, Iterator[TaskHandle]]:
        """Empty the queue at once, however long it is; return how many tasks were in it, and the wanted ones."""

    def refuse_pushers(self, error: Callable[[], ExecuteError], /) -> None:
        """Refuse all pushes from now on, each with an error made by `error`."""


_Entry = tuple[int, int, TaskHandle]


class _Entries(asyncio.PriorityQueue[_Entry]):
    """The priority queue of asyncio with two ways to remove many entries at once, by its hooks for subclasses."""

    _queue: list[_Entry]

    def _init(self, maxsize: int) -> None:
        self._queue = []

    def take_all(self) -> list[_Entry]:
        """Remove and return all entries, in the order of the heap."""
        taken, self._queue = self._queue, []
        return taken

    def sweep(self, leaving: TaskHandle) -> None:
        """Remove settled tasks, and `leaving`, which is settled next. Fast, because it blocks the loop."""
        self._queue = [entry for entry in self._queue if not entry[2].status.finished and entry[2] is not leaving]
        heapq.heapify(self._queue)


class TaskQueue:
    """An `asyncio.PriorityQueue` with a bound that counts only the tasks that are still wanted.

    A withdrawn task gives its place back at once (p-queue#219, p-queue#241); its entry stays in the heap, where it is
    skipped when it is reached, or removed when such entries outnumber the others. A place that becomes free goes to the
    pusher who has waited longest, so nobody is overtaken.

    Args:
        max_size: Most tasks that the queue holds; `None` for no limit.
    """

    def __init__(self, max_size: int | None) -> None:
        self.max_size = max_size
        self._entries = _Entries()
        self._wanted = 0  # number of entries that are still wanted
        self._last_id = self._cleared_id = 0  # id of the last task put in; id up to which all tasks were taken out
        self._places = 0  # places taken, by tasks in the queue or by pushers about to put one
        # In order of arrival, and any of them leaves in O(1): thousands may, when their server stops.
        self._pushers: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    def __len__(self) -> int:
        return self._places

    async def wait_for_room(self) -> None:
        """Take a place, waiting for one if the queue is full; `put` fills it.

        Cancellation: a place that is handed over together with the cancellation goes to the next pusher.
        """
        if self._has_room(1):
            self._places += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._pushers[turn] = None
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._pushers:
                del self._pushers[turn]
            elif turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give_back()
            raise

    def take_room(self, places: int = 1) -> None:
        """Take `places` places at once, without waiting; `put` fills them.

        Raises:
            QueueFull: Fewer are free, or other pushers wait for them already.
        """
        if not self._has_room(places):
            raise QueueFull(
                f"no room for {places} more in the queue: it holds {self._places} of {self.max_size} tasks; "
                "wait with push_task, or raise max_size"
            )
        self._places += places

    def _has_room(self, places: int) -> bool:
        return not places or self.max_size is None or (not self._pushers and self._places + places <= self.max_size)

    def put(self, handle: TaskHandle) -> None:
        """Put the task of `handle` into a place taken before."""
        self._wanted += 1
        self._last_id = handle.id
        self._entries.put_nowait((-handle.priority, handle.id, handle))

    async def get(self) -> TaskHandle:
        """Wait for the next wanted task, remove it and return it."""
        while True:
            handle = (await self._entries.get())[2]
            if not handle.done():
                self._wanted -= 1
                self.give_back()
                return handle

    def get_nowait(self) -> TaskHandle | None:
        """Remove and return the next wanted task; `None` if there is none."""
        while not self._entries.empty():
            handle = self._entries.get_nowait()[2]
            if not handle.done():
                self._wanted -= 1
                self.give_back()
                return handle
        return None

    def take_all(self) -> tuple[int, Iterator[TaskHandle]]:
        """Empty the queue; return the number of its tasks, and an iterator over those still wanted when reached."""
        cleared, self._wanted = self._wanted, 0
        self._cleared_id = self._last_id
        left = cleared
        while left and self._pushers:
            self.give_back()
            left -= 1
        self._places -= left
        return cleared, _wanted_of(self._entries.take_all())

    def uncounted(self) -> int:
        """Return 0, because a task is counted before it is put into this queue."""
        return 0

    def withdrawn(self, handle: TaskHandle) -> None:
        """Free the place of a task in the queue that is about to be settled."""
        if handle.id <= self._cleared_id:  # the queue was emptied since
            return
        self._wanted -= 1
        self.give_back()
        if self._entries.qsize() > 2 * self._places + _COMPACT_AT:
            self._entries.sweep(handle)

    def refuse_pushers(self, error: Callable[[], ExecuteError]) -> None:
        """Fail all who wait for room, each with an error of its own; of many, some in later iterations of the loop."""
        refused = 0
        while self._pushers and refused < _REFUSED_AT_ONCE:
            turn, _ = self._pushers.popitem(last=False)
            refused += 1
            if not turn.done():
                with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits there any more
                    turn.set_exception(error())
        if self._pushers:
            loop = next(iter(self._pushers)).get_loop()
            if not loop.is_closed():
                loop.call_soon(self.refuse_pushers, error)

    def give_back(self) -> None:
        """Free a place, for the pusher who has waited longest."""
        while self._pushers:
            turn, _ = self._pushers.popitem(last=False)
            if not turn.done():  # not cancelled in the meantime
                turn.set_result(None)
                return
        self._places -= 1


def _wanted_of(entries: list[_Entry]) -> Iterator[TaskHandle]:
    """Yield the wanted tasks of a heap, and drop each entry at once: dropping all of them together takes long."""
    entries.reverse()
    while entries:
        handle = entries.pop()[2]
        if not handle.done():
            yield handle
