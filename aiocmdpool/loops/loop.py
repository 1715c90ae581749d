"""What this room asks of an event loop, so that a thread which may block can have pipes and exits watched as well."""

from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A pending call."""

    def cancel(self) -> None:
        """Never call."""


class Loop(Protocol):
    """The methods of `asyncio.AbstractEventLoop` that are used here; `BlockingLoop` is the other one that has them."""

    def add_reader(self, fd: int, callback: Callable[[], object], /) -> object:
        """Call whenever the descriptor can be read from."""

    def remove_reader(self, fd: int, /) -> object:
        """Stop that, before the descriptor is closed."""

    def add_writer(self, fd: int, callback: Callable[[], object], /) -> object:
        """Call whenever the descriptor can be written to."""

    def remove_writer(self, fd: int, /) -> object:
        """Stop that, before the descriptor is closed."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Call in so many seconds."""

    def call_soon_threadsafe(self, callback: Callable[[], object], /) -> object:
        """Call from the loop, asked for by another thread; a `RuntimeError` if the loop is closed."""
