"""The queue of `CommandPoolSeg`: any thread puts into it without a lock, the loop alone takes out of it.

thread: append ── bell taken? ── call_soon_threadsafe(rouse)      loop: rouse ── wake runners ── popleft …
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from aiocmdpool.commands.errors import ExecuteError, QueueFull
from aiocmdpool.tasks.handle import TaskHandle

_COMPACT_AT = 64  # withdrawn entries before it can pay to sweep them out


class SegQueue:
    """First come, first served. Nothing in it waits for a lock, and a push never waits for the loop.

    What is shared between threads is two deques, whose `append`, `extend`, `popleft` and `pop` are atomic. `_entries`
    holds the tasks. `bell` holds one token while the loop has to be told of the next push: while a runner sleeps and
    nobody is about to wake it. Whoever takes the token rings, so a burst of pushes rings once, and one that finds the
    loop at work does not ring at all.

    Why no push is missed: a pusher first appends its entry, then looks for the token. A runner that goes to sleep first
    puts the token there, then looks at the entries again. Each of the two writes before it reads what the other has
    written, and all threads see those operations in one order (that of the interpreter lock; in an interpreter without
    it, that of the locks of the deques). So at least one of the two sees the other: the pusher the token, and rings, or
    the runner the entry, and stays awake. If both do, one of them gets the token.

    Args:
        max_size: How many tasks there may be; `None` for no bound. Looked at before a push and not held until after it,
            so threads that push in the same moment may exceed it by what each of them pushes.

    Attributes:
        refusal: Makes the error for those who push, once nobody may any more.
        adopt: Told of each task when the loop first has to do with it.
        bell: See above; a look at whether it is empty spares most pushers a call of `takes_bell`.
    """

    def __init__(self, max_size: int | None) -> None:
        self.max_size = max_size
        self.refusal: Callable[[], ExecuteError] | None = None
        self.adopt: Callable[[TaskHandle], None] = lambda _: None
        self._entries: deque[TaskHandle] = deque()
        self.bell: deque[None] = deque()
        # All else is the loop's own.
        self._sleepers: deque[asyncio.Future[None]] = deque()
        self._leaving: set[TaskHandle] = set()  # those of which the pool is being told; a hook may cancel one just now
        self._woken = 0  # runners that have been woken and have not come to look yet
        self._withdrawn = 0  # entries that are not wanted any more
        self._frozen: int | None = None  # the length, while entries are taken out and put back

    def __len__(self) -> int:
        return len(self._entries) - self._withdrawn if self._frozen is None else self._frozen

    def unheard(self) -> int:
        """All of them: the pool is told when it takes them out."""
        return len(self)

    # -- any thread -------------------------------------------------------------------------------------------------

    def check_room(self, places: int = 1) -> None:
        """Refuse what does not fit in.

        Raises:
            QueueFull: There are fewer places.
        """
        if self.max_size is not None and len(self) + places > self.max_size:
            raise QueueFull(
                f"no room for {places} more in the queue: it holds {len(self)} of {self.max_size} tasks; "
                "push later, or raise max_size"
            )

    def put(self, handle: TaskHandle) -> None:
        """Put a task into it; then `takes_bell` says what else to do."""
        self._entries.append(handle)

    def put_all(self, handles: Sequence[TaskHandle]) -> None:
        """Put tasks into it, one behind the other."""
        self._entries.extend(handles)

    def takes_bell(self) -> bool:
        """Whether it is for the caller to have `rouse` called on the loop."""
        if not self.bell:
            return False
        try:
            self.bell.pop()
        except IndexError:  # another thread was faster, and rings
            return False
        return True

    def refuse_pushers(self, error: Callable[[], ExecuteError]) -> None:
        """From now on nobody may push."""
        self.refusal = error

    # -- the loop ---------------------------------------------------------------------------------------------------

    def rouse(self) -> None:
        """Wake a sleeping runner for each task; if there is none, have the next push ring."""
        if not self._entries:
            if self._sleepers:
                self._hang_bell()
            return
        while self._sleepers and len(self._entries) > self._woken:
            sleeper = self._sleepers.popleft()
            if not sleeper.done():  # its runner is not being cancelled
                self._woken += 1
                sleeper.set_result(None)

    def _hang_bell(self) -> None:
        """Before anybody sleeps; in this order, see above."""
        if not self.bell:
            self.bell.append(None)
        if self._entries and self.takes_bell():
            self.rouse()

    async def get(self) -> TaskHandle:
        """Wait for the next wanted task and remove it."""
        while True:
            handle = self.get_nowait()
            if handle is not None:
                if self._sleepers:
                    self.rouse()  # for what came meanwhile; or else they sleep on, and the bell must hang
                return handle
            sleeper = asyncio.get_running_loop().create_future()
            self._sleepers.append(sleeper)
            self._hang_bell()
            try:
                await sleeper
            except asyncio.CancelledError:
                if not sleeper.cancelled():  # it was woken, and does not look: another one has to
                    self._woken -= 1
                    self.rouse()
                elif sleeper in self._sleepers:
                    self._sleepers.remove(sleeper)
                raise
            self._woken -= 1

    def get_nowait(self) -> TaskHandle | None:
        """The next wanted task, removed; `None` if there is none."""
        while self._entries:
            handle = self._entries.popleft()
            if not handle.done():
                self._let_go(handle)
                if not handle.done():  # else a hook that was told of it has ended it
                    return handle
            else:
                self._withdrawn -= 1
        return None

    def take_all(self) -> tuple[int, Iterator[TaskHandle]]:
        """Take out what is in it, and what is put into it until the last one is taken: nobody may push any more."""
        return len(self), iter(self.get_nowait, None)

    def withdrawn(self, handle: TaskHandle) -> None:
        """Take note that a task in the queue is settled next: its place is free, its entry is skipped later."""
        if handle in self._leaving:
            return
        self._withdrawn += 1
        self._let_go(handle)
        if self._withdrawn > len(self) + _COMPACT_AT:
            self._compact(handle)

    def _let_go(self, handle: TaskHandle) -> None:
        self._leaving.add(handle)
        self.adopt(handle)
        self._leaving.remove(handle)

    def _compact(self, leaving: TaskHandle) -> None:
        """Sweep out what is not wanted. Threads may push meanwhile: they append, and what is kept goes before that."""
        self._frozen = len(self)
        kept = [self._entries.popleft() for _ in range(len(self._entries))]
        self._entries.extendleft(handle for handle in reversed(kept) if not handle.done() and handle is not leaving)
        self._withdrawn, self._frozen = 0, None
