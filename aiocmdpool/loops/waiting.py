"""Waiting that a cancellation does not cut short."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

import anyio


async def wait_through(
    future: "asyncio.Future[Any]",
    seconds: float | None = None,
    on_cancel: Callable[[], None] | None = None,
) -> asyncio.CancelledError | None:
    """Wait for a future, at most so many seconds, through any number of cancellations of the caller.

    The future itself is never cancelled, and its outcome is not looked at.

    Args:
        future: What to wait for.
        seconds: How long; `None` for as long as it takes.
        on_cancel: Called at each cancellation, to hurry what is waited for. One of anyio's scopes counts once.

    Returns:
        The last cancellation that arrived; the caller owes it to whoever sent it, and raises it when its work is done.
    """
    cancelled: asyncio.CancelledError | None = None
    loop = asyncio.get_running_loop()
    deadline = None if seconds is None else loop.time() + seconds
    while not future.done():
        left = None if deadline is None else deadline - loop.time()
        if left is not None and left <= 0:
            break
        try:
            if cancelled is None:  # most waits come to their end, and a scope costs as much as some of them
                await asyncio.wait((future,), timeout=left)
            else:
                with shielded():
                    await asyncio.wait((future,), timeout=left)
        except asyncio.CancelledError as error:
            cancelled = error
            if on_cancel is not None:
                on_cancel()
    return cancelled


def shielded() -> AbstractContextManager[object]:
    """Keep anyio's scopes from cancelling what is awaited in the block; `Task.cancel` arrives as ever.

    A scope of anyio that is cancelled cancels its tasks again in every turn of the loop for as long as they wait
    (Starlette does it to the endpoint of a client that has left): whoever waits on would keep the loop busy with that.
    """
    # Who has a scope has loaded this; others are spared the import, in the middle of their loop.
    return _Shield() if "anyio._backends._asyncio" in sys.modules else nullcontext()


class _Shield:
    def __init__(self) -> None:
        self._scope = anyio.CancelScope(shield=True)

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not GeneratorExit:  # thrown away with its loop: there is no task any more that could leave a scope
            self._scope.__exit__(kind, error, traceback)
