"""`Loop`: the part of an event loop that readers and watchers of this package use; a blocking thread can have it."""

from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A pending call of a loop."""

    def cancel(self) -> None:
        """Cancel the call, unless it was made."""


class Loop(Protocol):
    """The methods of `asyncio.AbstractEventLoop` that are used; `BlockingLoop` has them, too."""

    def add_reader(self, fd: int, callback: Callable[[], object], /) -> object:
        """Call `callback` whenever the descriptor `fd` can be read."""

    def remove_reader(self, fd: int, /) -> object:
        """Stop watching for reads; to be called before `fd` is closed."""

    def add_writer(self, fd: int, callback: Callable[[], object], /) -> object:
        """Call `callback` whenever the descriptor `fd` can be written."""

    def remove_writer(self, fd: int, /) -> object:
        """Stop watching for writes; to be called before `fd` is closed."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Call `callback` in `delay` seconds; return a timer that can be cancelled."""

    def call_soon_threadsafe(self, callback: Callable[[], object], /) -> object:
        """Call `callback` on the loop, from any thread; raise `RuntimeError` if the loop is closed."""
