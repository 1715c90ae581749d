"""The bounded queue of a pool: by priority, first come first served within one."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from aiocmdpool.commands.errors import ExecuteError, QueueFull
from aiocmdpool.tasks.handle import TaskHandle

_COMPACT_AT = 64  # withdrawn entries before it can pay to sweep them out


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

    def refuse_pushers(self, error: Callable[[], ExecuteError], /) -> None:
        """From now on nobody may push."""


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
        self._entries: asyncio.PriorityQueue[tuple[int, int, TaskHandle]] = asyncio.PriorityQueue()
        self._places = 0  # taken: by tasks in the queue, or by pushers about to put one
        self._pushers: deque[asyncio.Future[None]] = deque()

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
        self._pushers.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._pushers:
                self._pushers.remove(turn)
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
        self._entries.put_nowait((-handle.priority, handle.id, handle))

    async def get(self) -> TaskHandle:
        """Wait for the next wanted task and remove it."""
        while True:
            handle = (await self._entries.get())[2]
            if not handle.done():
                self.give_back()
                return handle

    def get_nowait(self) -> TaskHandle | None:
        """The next wanted task, removed; `None` if there is none."""
        while not self._entries.empty():
            handle = self._entries.get_nowait()[2]
            if not handle.done():
                self.give_back()
                return handle
        return None

    def unheard(self) -> int:
        """None: whoever puts a task into it has told the pool."""
        return 0

    def withdrawn(self, handle: TaskHandle) -> None:
        """Take note that a task in the queue is settled next: its place is free."""
        self.give_back()
        entries = self._entries
        if entries.qsize() > 2 * self._places + _COMPACT_AT:
            for entry in [entries.get_nowait() for _ in range(entries.qsize())]:
                if not entry[2].done() and entry[2] is not handle:
                    entries.put_nowait(entry)

    def refuse_pushers(self, error: Callable[[], ExecuteError]) -> None:
        """Fail everyone who waits for room, each with an error of its own."""
        while self._pushers:
            turn = self._pushers.popleft()
            if not turn.done():
                turn.set_exception(error())

    def give_back(self) -> None:
        """Free a place: it goes to whoever has waited longest."""
        while self._pushers:
            turn = self._pushers.popleft()
            if not turn.done():  # not cancelled meanwhile
                turn.set_result(None)
                return
        self._places -= 1
