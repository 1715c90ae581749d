"""What ties an object of the facade to the background thread that it was first used with."""

import warnings
import weakref
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiocmdpool.commands.errors import ExecuteError, PoolClosed
from aiocmdpool.sync.background import Background, Closer
from aiocmdpool.sync.calls import Call, Question
from aiocmdpool.sync.no_loop import check_no_loop
from aiocmdpool.sync.process_wide import current

T = TypeVar("T")


class Link:
    """Made unbound, so that a pool may be made at import and first used after the fork of a server.

    Args:
        owner: The object; when it is forgotten without having been closed, it is closed, with a `ResourceWarning`.
        close: How, on the loop; must not refer to the owner.
    """

    def __init__(self, owner: object, close: Closer) -> None:
        self.name = type(owner).__name__
        self._close = close
        self._background: Background | None = None
        self._closed = False
        weakref.finalize(owner, self._forgotten).atexit = False  # the background thread closes it then

    def background(self) -> Background:
        """Where it lives.

        Raises:
            ExecuteError: In the parent of this process.
            PoolClosed: Nowhere any more.
        """
        background = self._background
        if background is None:
            self._background = background = current()
            background.open[self] = self._close
        elif background.inherited:
            message = f"this {self.name} belongs to the parent of this forked process; make a new one here"
            raise ExecuteError(message)
        elif background.ended:
            why = "was shut down" if background.failure is None else f"was ended by {background.failure!r}"
            message = f"aiocmdpool.sync {why}, and this {self.name} with it; make a new one"
            raise PoolClosed(message) from background.failure
        return background

    def call(self, work: Callable[[], Awaitable[T]], undo: Callable[[T], object] | None = None) -> T:
        """Await something on the loop, and block until it is done."""
        check_no_loop(self.name)
        return Call(self.background(), work, undo).finish()

    def ask(self, work: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
        """Call a function on the loop, and block for its answer."""
        check_no_loop(self.name)
        return Question(self.background(), work, undo).finish()

    def look(self, work: Callable[[], T]) -> T:
        """The same for one that only looks: it may do so here where there is no loop that it could disturb."""
        background = self._background
        if background is None or background.ended:
            return work()
        return self.ask(work)

    @property
    def is_ended(self) -> bool:
        """Whether there is nothing to close: it was, or the background thread is gone, or is the parent's."""
        background = self._background
        return self._closed or (background is not None and (background.ended or background.inherited))

    def closed(self) -> None:
        """The owner has been closed in good order."""
        self._closed = True
        if self._background is not None:
            self._background.open.pop(self, None)

    def _forgotten(self) -> None:
        if self._background is not None and not self.is_ended:
            self._background.close_soon(self)
            warnings.warn(f"a {self.name} was not closed; use `with`", ResourceWarning, stacklevel=2)
