"""What ties an object of the facade to what it stands for: one of `aiocmdpool`, and the background thread it runs in.

An object of the facade may be made at import and used in any process that is forked after that (gunicorn's `--preload`,
multiprocessing, Celery): it has one life in each process, and each begins with the first use there.
"""

import functools
import warnings
import weakref
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from aiocmdpool.commands.errors import ExecuteError, PoolClosed
from aiocmdpool.sync import process_wide
from aiocmdpool.sync.background import Background
from aiocmdpool.sync.calls import Call, Question
from aiocmdpool.sync.no_loop import check_no_loop

T = TypeVar("T")
P = TypeVar("P")


class Life(Generic[P]):
    """That of one object in one process.

    Args:
        name: Of the class, for errors.
        pool: What the object stands for.
        generation: Of the process: see `process_wide.generation`.
    """

    __slots__ = ("_generation", "_name", "background", "pool")

    def __init__(self, name: str, pool: P, generation: int) -> None:
        self.pool = pool
        self.background: Background | None = None
        """Where it runs, from its first use on."""
        self._name = name
        self._generation = generation

    @property
    def is_inherited(self) -> bool:
        """Whether it is lived by the parent of this forked process."""
        return self._generation != process_wide.generation

    @property
    def is_over(self) -> bool:
        """Whether what was open has been closed by the end of the background thread, or is none of this process."""
        return self.is_inherited or (self.background is not None and self.background.ended)

    def check(self) -> None:
        """Refuse what can only be done in the life that this is.

        Raises:
            ExecuteError: It is the parent's.
            PoolClosed: It has ended.
        """
        if self.is_inherited:
            raise ExecuteError(f"this {self._name} belongs to the parent of this forked process; make a new one here")
        background = self.background
        if background is not None and background.ended:
            why = "was shut down" if background.failure is None else f"was ended by {background.failure!r}"
            message = f"aiocmdpool.sync {why}, and this {self._name} with it; make a new one"
            raise PoolClosed(message) from background.failure

    def bind(self, close: Callable[[P], Awaitable[object]]) -> Background:
        """Return where it runs, from now on if it has not run yet."""
        self.check()
        background = self.background
        if background is None:
            # Of several threads that come first, all get the same, unless it ends just then; the last word counts.
            self.background = background = process_wide.current()
            background.open[self] = functools.partial(close, self.pool)
        return background


class Link(Generic[P]):
    """The lives of an object of the facade.

    Args:
        owner: The object; when it is forgotten without having been closed, it is closed, with a `ResourceWarning`.
        make: Makes what it stands for; must not refer to the owner, as `close`.
        close: Closes that, on the loop.
    """

    def __init__(self, owner: object, make: Callable[[], P], close: Callable[[P], Awaitable[object]]) -> None:
        self.name = type(owner).__name__
        self._make = make
        self._close = close
        # By generation. Those of the parents are kept: to throw them away would close what is in use there.
        self._lives: dict[int, Life[P]] = {}
        self._closed = False
        self.life()
        weakref.finalize(owner, self._forgotten).atexit = False  # the background thread closes it then

    def life(self) -> Life[P]:
        """Return that of this process. One that was closed in the parent stays closed."""
        generation = process_wide.generation
        life = self._lives.get(generation)
        if life is None:
            if self._closed:
                return next(reversed(self._lives.values()))
            life = self._lives.setdefault(generation, Life(self.name, self._make(), generation))
        return life

    @property
    def pool(self) -> P:
        """What it stands for in this process."""
        return self.life().pool

    def background(self) -> Background:
        """Where it lives.

        Raises:
            PoolClosed: Nowhere any more.
        """
        life = self.life()
        if self._closed and (life.is_inherited or life.background is None):
            raise PoolClosed(f"this {self.name} is stopped; make a new one")
        return life.bind(self._close)

    def call(self, work: Callable[[], Awaitable[T]], undo: Callable[[T], object] | None = None) -> T:
        """Await something on the loop, and block until it is done."""
        check_no_loop(self.name)
        return Call(self.background(), work, undo).finish()

    def ask(self, work: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
        """Call a function on the loop, and block for its answer."""
        check_no_loop(self.name)
        return Question(self.background(), work, undo).finish()

    def look(self, work: Callable[[], T]) -> T:
        """Like `ask`, for functions that only read: called here where there is no loop that they could disturb."""
        life = self.life()
        if life.background is None or life.is_over:
            return work()
        return self.ask(work)

    @property
    def is_ended(self) -> bool:
        """Whether there is nothing to close: it is closed, or the background thread has gone, or is the parent's."""
        life = self.life()
        return self._closed or life.is_over or (life.background is None and len(self._lives) > 1)

    def closed(self) -> None:
        """Note that the owner has been closed in good order."""
        self._closed = True
        for life in tuple(self._lives.values()):
            if life.background is not None and not life.is_inherited:
                life.background.open.pop(life, None)

    def _forgotten(self) -> None:
        life = self._lives.get(process_wide.generation)
        if life is not None and life.background is not None and not self._closed and not life.is_over:
            life.background.close_soon(life)
            warnings.warn(f"a {self.name} was not closed; use `with`", ResourceWarning, stacklevel=2)
