"""The bounded queue of a pool: by priority, first come first served within one."""

import asyncio
import contextlib
import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Protocol

from aiocmdpool.commands.errors import ExecuteError, QueueFull
from aiocmdpool.tasks.handle import TaskHandle

_COMPACT_AT = 64  # withdrawn entries before it can pay to sweep them out
_REFUSED_AT_ONCE = 100  # pushers in one turn of the loop; the next one has them all go on


class PoolQueue(Protocol):
    """What the rest of a pool asks of its queue."""

    @property
    def max_size(self) -> int | None:
        """Bound; `None` for none."""

    def __len__(self) -> int: ...

    def unheard(self) -> int:
        """Tasks in it that the pool has not been told of."""

    def put(self, handle: TaskHandle, /) -> None:
        """Put a task into it."""

    async def get(self) -> TaskHandle:
        """Wait for the next wanted task and remove it."""
        ...

    def get_nowait(self) -> TaskHandle | None:
        """The next wanted task, removed; `None` if there is none."""

    def withdrawn(self, handle: TaskHandle, /) -> None:
        """Take note that a task in the queue is not wanted any more."""

    def take_all(self) -> tuple[int, Iterator[TaskHandle]]:
        """Empty it at once, however long it is; how many tasks that were, and those of them that are wanted."""

    def refuse_pushers(self, error: Callable[[], ExecuteError], /) -> None:
        """From now on nobody may push."""


_Entry = tuple[int, int, TaskHandle]


class _Entries(asyncio.PriorityQueue[_Entry]):
    """That of asyncio, by what it lets a subclass replace, with two ways to remove many entries at once."""

    _queue: list[_Entry]

    def _init(self, maxsize: int) -> None:
        self._queue = []

    def take_all(self) -> list[_Entry]:
        """Remove and return all entries, in the order of the heap."""
        taken, self._queue = self._queue, []
        return taken

    def sweep(self, leaving: TaskHandle) -> None:
        """Remove what is settled, and one that is next. Written for speed: it is one turn of the loop."""
        self._queue = [entry for entry in self._queue if not entry[2].status.finished and entry[2] is not leaving]
        heapq.heapify(self._queue)


class TaskQueue:
    """An `asyncio.PriorityQueue` with a bound that counts only the tasks that are still wanted.

    A withdrawn task gives its place back at once (p-queue#219, p-queue#241); its entry stays in the heap, where it is
    skipped when its turn comes, or swept out when such entries outnumber the others. A place that becomes free is
    handed to the pusher who has waited longest, so nobody can be overtaken.

    Args:
        max_size: Bound; `None` for none.
    """

    def __init__(self, max_size: int | None) -> None:
        self.max_size = max_size
        self._entries = _Entries()
        self._wanted = 0  # entries that are
        self._last_id = self._cleared_id = 0  # of the tasks put into it; up to which they were all taken out of it
        self._places = 0  # taken: by tasks in the queue, or by pushers about to put one
        # In the order in which they came, and any of them leaves at no cost: thousands may, when their server stops.
        self._pushers: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    def __len__(self) -> int:
        return self._places

    async def wait_for_room(self) -> None:
        """Take a place, waiting for one if need be; `put` fills it.

        Cancellation: a place that arrives together with the cancellation goes to the next in line.
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
        """Take places at once; `put` fills them.

        Raises:
            QueueFull: There are fewer, or others wait for them already.
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
        """Put a task into a place taken before."""
        self._wanted += 1
        self._last_id = handle.id
        self._entries.put_nowait((-handle.priority, handle.id, handle))

    async def get(self) -> TaskHandle:
        """Wait for the next wanted task and remove it."""
        while True:
            handle = (await self._entries.get())[2]
            if not handle.done():
                self._wanted -= 1
                self.give_back()
                return handle

    def get_nowait(self) -> TaskHandle | None:
        """The next wanted task, removed; `None` if there is none."""
        while not self._entries.empty():
            handle = self._entries.get_nowait()[2]
            if not handle.done():
                self._wanted -= 1
                self.give_back()
                return handle
        return None

    def take_all(self) -> tuple[int, Iterator[TaskHandle]]:
        """Empty it; how many tasks that were, and those of them that are still wanted when they are asked for."""
        cleared, self._wanted = self._wanted, 0
        self._cleared_id = self._last_id
        left = cleared
        while left and self._pushers:
            self.give_back()
            left -= 1
        self._places -= left
        return cleared, _wanted_of(self._entries.take_all())

    def unheard(self) -> int:
        """None: whoever puts a task into it has told the pool."""
        return 0

    def withdrawn(self, handle: TaskHandle) -> None:
        """Take note that a task in the queue is settled next: its place is free."""
        if handle.id <= self._cleared_id:  # it is not in here any more
            return
        self._wanted -= 1
        self.give_back()
        if self._entries.qsize() > 2 * self._places + _COMPACT_AT:
            self._entries.sweep(handle)

    def refuse_pushers(self, error: Callable[[], ExecuteError]) -> None:
        """Fail everyone who waits for room, each with an error of its own; of many, some in later turns of the loop."""
        refused = 0
        while self._pushers and refused < _REFUSED_AT_ONCE:
            turn, _ = self._pushers.popitem(last=False)
            refused += 1
            if not turn.done():
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits on it any more
                    turn.set_exception(error())
        if self._pushers:
            loop = next(iter(self._pushers)).get_loop()
            if not loop.is_closed():
                loop.call_soon(self.refuse_pushers, error)

    def give_back(self) -> None:
        """Free a place: it goes to whoever has waited longest."""
        while self._pushers:
            turn, _ = self._pushers.popitem(last=False)
            if not turn.done():  # not cancelled meanwhile
                turn.set_result(None)
                return
        self._places -= 1


def _wanted_of(entries: list[_Entry]) -> Iterator[TaskHandle]:
    """Hand out the tasks of a heap that are wanted, and forget each entry: to do that for all at once takes long."""
    entries.reverse()
    while entries:
        handle = entries.pop()[2]
        if not handle.done():
            yield handle
