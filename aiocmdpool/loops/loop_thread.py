"""`LoopThread`: tells which thread runs a loop, and whether the loop stands still because that thread is gone."""

import asyncio
import atexit
import contextlib
import importlib
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class _Mark:
    """An object that lives as long as its thread. An ident would not do: the next thread may get the same one."""

    __slots__ = ("__weakref__",)


class _Here(threading.local):
    def __init__(self) -> None:
        mark = _Mark()
        self.mark = weakref.ref(mark)
        self._kept: _Mark | None = mark

    def leave(self) -> None:
        """Count this thread among those that are gone."""
        self._kept = None


_here = _Here()


def _main_thread_ends() -> None:
    if threading.current_thread() is threading.main_thread():
        _here.leave()


# The main thread lasts until all others have ended, and those may wait for a loop that it ran. What concurrent.futures
# waits for at the exit comes after this only if it was imported before.
with contextlib.suppress(RuntimeError):  # it has ended already
    importlib.import_module("concurrent.futures.thread")
    getattr(threading, "_register_atexit", atexit.register)(_main_thread_ends)


class LoopThread:
    """The loop of a pool and the thread that has run it last.

    A loop that is stopped and never closed tells nobody: `Thread(target=loop.run_forever)` ends like that. While its
    thread is there, it may run the loop again at any time; once that is gone, hardly anybody will. The main thread is
    gone when the interpreter begins to wait for the others.

    Args:
        loop: The loop that runs in this thread.

    Attributes:
        mark: Function that returns `None` once the thread is gone.

    Concurrency: any thread may ask; only the one that runs the loop calls `runs_here`.
    """

    __slots__ = ("_loop", "mark")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.mark: Callable[[], object] = _here.mark

    def runs_here(self) -> None:
        """Note that this thread runs the loop now."""
        self.mark = _here.mark

    @property
    def is_here(self) -> bool:
        """Return whether this thread was the last to run the loop."""
        return self.mark is _here.mark

    @property
    def is_gone(self) -> bool:
        """Return whether the loop stands still, not closed, and the thread that ran it is gone."""
        return self.mark() is None and not self._loop.is_running() and not self._loop.is_closed()
