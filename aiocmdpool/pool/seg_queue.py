"""`SegQueue`: the queue of `CommandPoolSeg`, which any thread appends to without a lock and only the loop takes from.

thread: append ── wake token taken? ── call_soon_threadsafe(wake_runners)      loop: wake_runners ── get ── popleft …
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from aiocmdpool.commands.errors import ExecuteError, QueueFull
from aiocmdpool.tasks.handle import TaskHandle

_COMPACT_AT = 64  # withdrawn entries from which on removing them can pay off


class SegQueue:
    """A first come, first served queue. No operation waits for a lock, and a push never waits for the loop.

    Threads share two deques, whose `append`, `extend`, `popleft` and `pop` are atomic. `_entries` holds the tasks.
    `wake_token` holds one token while the next push has to wake the loop: while a runner sleeps and nobody is about to
    wake it. Whoever takes the token wakes the loop, so a burst of pushes wakes it once, and a push to a busy loop not
    at all.

    Why no push is missed: a pusher first appends its entry, then looks for the token. A runner that goes to sleep first
    puts the token there, then looks at the entries again. Each writes before it reads what the other has written, and
    all threads see these operations in one order (that of the interpreter lock; in an interpreter without it, that of
    the locks of the deques). So at least one sees the other: the pusher sees the token and wakes the loop, or the
    runner sees the entry and stays awake. If both do, only one of them gets the token.

    Args:
        max_size: Most tasks that the queue may hold; `None` for no limit. It is checked before a push, without a lock,
            so threads that push in the same moment may exceed it by what each of them pushes.

    Attributes:
        refusal: Function that makes the error for a push; `None` as long as pushes are allowed.
        on_first_seen: Called with each task when the loop first sees it, to count it.
        wake_token: See above; checking whether it is empty saves most pushers the call of
            `take_wake_token`.
    """

    def __init__(self, max_size: int | None) -> None:
        self.max_size = max_size
        self.refusal: Callable[[], ExecuteError] | None = None
        self.on_first_seen: Callable[[TaskHandle], None] = lambda _: None
        self._entries: deque[TaskHandle] = deque()
        self.wake_token: deque[None] = deque()
        # Everything below belongs to the loop.
        self._sleepers: deque[asyncio.Future[None]] = deque()
        self._leaving: set[TaskHandle] = set()  # being passed to `on_first_seen`; a hook may cancel one meanwhile
        self._woken = 0  # runners that have been woken and have not run yet
        self._withdrawn = 0  # entries that are not wanted any more
        self._frozen: int | None = None  # the length, while entries are taken out and put back

    def __len__(self) -> int:
        return len(self._entries) - self._withdrawn if self._frozen is None else self._frozen

    def uncounted(self) -> int:
        """Return the number of all queued tasks: the pool counts a task when it leaves the queue."""
        return len(self)

    # -- any thread -------------------------------------------------------------------------------------------------

    def check_room(self, places: int = 1) -> None:
        """Raise `QueueFull` unless there is room for `places` more tasks.

        Raises:
            QueueFull: Fewer places are free.
        """
        if self.max_size is not None and len(self) + places > self.max_size:
            raise QueueFull(
                f"no room for {places} more in the queue: it holds {len(self)} of {self.max_size} tasks; "
                "push later, or raise max_size"
            )

    def put(self, handle: TaskHandle) -> None:
        """Append the task of `handle`; the caller then has to call `take_wake_token`."""
        self._entries.append(handle)

    def put_all(self, handles: Sequence[TaskHandle]) -> None:
        """Append the tasks of `handles` in order; the caller then has to call `take_wake_token`."""
        self._entries.extend(handles)

    def take_wake_token(self) -> bool:
        """Take the token if there is one; return whether the caller got it and has to schedule `wake_runners`."""
        if not self.wake_token:
            return False
        try:
            self.wake_token.pop()
        except IndexError:  # another thread was faster, and wakes the loop
            return False
        return True

    def refuse_pushers(self, error: Callable[[], ExecuteError]) -> None:
        """Refuse all pushes from now on, each with an error made by `error`."""
        self.refusal = error

    # -- the loop ---------------------------------------------------------------------------------------------------

    def wake_runners(self) -> None:
        """Wake one sleeping runner per task; if there is no task, put the token there for the next push."""
        if not self._entries:
            if self._sleepers:
                self._put_wake_token()
            return
        while self._sleepers and len(self._entries) > self._woken:
            sleeper = self._sleepers.popleft()
            if not sleeper.done():  # its runner is not being cancelled
                self._woken += 1
                sleeper.set_result(None)

    def _put_wake_token(self) -> None:
        """Put the token there before a runner sleeps, then check the entries: the order matters, see the class."""
        if not self.wake_token:
            self.wake_token.append(None)
        if self._entries and self.take_wake_token():
            self.wake_runners()

    async def get(self) -> TaskHandle:
        """Wait for the next wanted task, remove it and return it."""
        while True:
            handle = self.get_nowait()
            if handle is not None:
                if self._sleepers:
                    self.wake_runners()  # for tasks that came meanwhile; without any, the sleepers need the token
                return handle
            sleeper = asyncio.get_running_loop().create_future()
            self._sleepers.append(sleeper)
            self._put_wake_token()
            try:
                await sleeper
            except asyncio.CancelledError:
                if not sleeper.cancelled():  # it was woken and will not look, so another runner has to
                    self._woken -= 1
                    self.wake_runners()
                elif sleeper in self._sleepers:
                    self._sleepers.remove(sleeper)
                raise
            self._woken -= 1

    def get_nowait(self) -> TaskHandle | None:
        """Remove and return the next wanted task; `None` if there is none."""
        while self._entries:
            handle = self._entries.popleft()
            if not handle.done():
                self._let_go(handle)
                if not handle.done():  # else a hook that was notified of it has ended it
                    return handle
            else:
                self._withdrawn -= 1
        return None

    def take_all(self) -> tuple[int, Iterator[TaskHandle]]:
        """Return how many tasks there are, and an iterator that removes them, and those added meanwhile, one by one."""
        return len(self), iter(self.get_nowait, None)

    def withdrawn(self, handle: TaskHandle) -> None:
        """Free the place of a task in the queue that is about to be settled; its entry is skipped later."""
        if handle in self._leaving:
            return
        self._withdrawn += 1
        self._let_go(handle)
        if self._withdrawn > len(self) + _COMPACT_AT:
            self._compact(handle)

    def _let_go(self, handle: TaskHandle) -> None:
        self._leaving.add(handle)
        self.on_first_seen(handle)
        self._leaving.remove(handle)

    def _compact(self, leaving: TaskHandle) -> None:
        """Remove unwanted entries. Threads may append meanwhile; the kept entries go in front of theirs."""
        self._frozen = len(self)
        kept = [self._entries.popleft() for _ in range(len(self._entries))]
        self._entries.extendleft(handle for handle in reversed(kept) if not handle.done() and handle is not leaving)
        self._withdrawn, self._frozen = 0, None
