"""`Binding` and `Life`: the tie between an object of the facade, its pool of `aiocmdpool`, and the background thread.

An object of the facade may be made at import and used in any process that is forked later (gunicorn's `--preload`,
multiprocessing, Celery): it has one life in each process, which begins with the first use there.
"""

import functools
import warnings
import weakref
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from aiocmdpool.commands.errors import ExecuteError, PoolClosed
from aiocmdpool.sync import process_wide
from aiocmdpool.sync.background import Background
from aiocmdpool.sync.calls import Call, PlainCall
from aiocmdpool.sync.no_loop import check_no_loop
from aiocmdpool.tasks.thread_handle import running_loop

T = TypeVar("T")
P = TypeVar("P")


class Life(Generic[P]):
    """The life of one facade object in one process.

    Args:
        name: Name of the object's class, for errors.
        pool: The pool that the object stands for.
        generation: Generation of the process; see `process_wide.generation`.
    """

    __slots__ = ("_generation", "_name", "background", "pool")

    def __init__(self, name: str, pool: P, generation: int) -> None:
        self.pool = pool
        self.background: Background | None = None
        """The background that runs the pool, from its first use on; `None` before."""
        self._name = name
        self._generation = generation

    @property
    def is_inherited(self) -> bool:
        """Return whether this life belongs to the parent of this forked process."""
        return self._generation != process_wide.generation

    @property
    def is_over(self) -> bool:
        """Return whether the pool was closed by the end of the background, or belongs to the parent process."""
        return self.is_inherited or (self.background is not None and self.background.ended)

    def check(self) -> None:
        """Raise an error if the object cannot be used in this life any more.

        Raises:
            ExecuteError: The object belongs to the parent of this forked process.
            PoolClosed: The background has ended.
        """
        if self.is_inherited:
            raise ExecuteError(f"this {self._name} belongs to the parent of this forked process; make a new one here")
        background = self.background
        if background is not None and background.ended:
            why = "was shut down" if background.failure is None else f"was ended by {background.failure!r}"
            message = f"aiocmdpool.sync {why}, and this {self._name} with it; make a new one"
            raise PoolClosed(message) from background.failure

    def bind(self, close: Callable[[P], Awaitable[object]]) -> Background:
        """Return the background that runs the pool; the present one from the first call on."""
        self.check()
        background = self.background
        if background is None:
            # Threads that race get the same one, unless it ends just then; the last assignment counts.
            self.background = background = process_wide.background()
            background.open[self] = functools.partial(close, self.pool)
        return background


class Binding(Generic[P]):
    """The lives of one facade object, one for each process that uses it.

    Args:
        owner: The object; if it is collected unclosed, its pool is closed, with a `ResourceWarning`.
        make: Makes the pool that it stands for; neither this nor `close` may refer to the owner.
        close: Closes the pool, on the loop.
    """

    def __init__(self, owner: object, make: Callable[[], P], close: Callable[[P], Awaitable[object]]) -> None:
        self.name = type(owner).__name__
        self._make = make
        self._close = close
        # By generation. Those of parents are kept, because collecting them would close resources in use there.
        self._lives: dict[int, Life[P]] = {}
        self._closed = False
        self.life()
        weakref.finalize(owner, self._owner_collected).atexit = False  # at exit, the background thread closes it

    def life(self) -> Life[P]:
        """Return the life in this process. An object that was closed in the parent stays closed."""
        generation = process_wide.generation
        life = self._lives.get(generation)
        if life is None:
            if self._closed:
                return next(reversed(self._lives.values()))
            life = self._lives.setdefault(generation, Life(self.name, self._make(), generation))
        return life

    @property
    def pool(self) -> P:
        """Return the pool that the object stands for in this process."""
        return self.life().pool

    def background(self) -> Background:
        """Return the background that runs the pool.

        Raises:
            PoolClosed: The object is stopped, or its background has ended.
        """
        life = self.life()
        if self._closed and (life.is_inherited or life.background is None):
            raise PoolClosed(f"this {self.name} is stopped; make a new one")
        return life.bind(self._close)

    def await_(self, work: Callable[[], Awaitable[T]], undo: Callable[[T], object] | None = None) -> T:
        """Await `work()` on the loop, block until it is done, and return its value."""
        check_no_loop(self.name)
        return Call(self.background(), work, undo).finish()

    def call(self, work: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
        """Call `work()` on the loop, block until it is done, and return its value."""
        check_no_loop(self.name)
        return PlainCall(self.background(), work, undo).finish()

    def peek(self, work: Callable[[], T]) -> T:
        """Call `work` like `call`; in this thread if no loop runs the pool, which it could disturb."""
        life = self.life()
        if life.background is None or life.is_over:
            return work()
        return self.call(work)

    def read(self, work: Callable[[], T]) -> T:
        """Call `work`, which only reads, like `peek`; in this thread if it runs a loop, which must not be blocked."""
        return work() if running_loop() is not None else self.peek(work)

    @property
    def is_ended(self) -> bool:
        """Return whether there is nothing to close: it is closed, its background has ended, or it is the parent's."""
        life = self.life()
        return self._closed or life.is_over or (life.background is None and len(self._lives) > 1)

    def closed(self) -> None:
        """Record that the owner has been closed in good order."""
        self._closed = True
        for life in tuple(self._lives.values()):
            if life.background is not None and not life.is_inherited:
                life.background.open.pop(life, None)

    def _owner_collected(self) -> None:
        life = self._lives.get(process_wide.generation)
        if life is not None and life.background is not None and not self._closed and not life.is_over:
            life.background.close_soon(life)
            warnings.warn(f"a {self.name} was not closed; use `with`", ResourceWarning, stacklevel=2)
