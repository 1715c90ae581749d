"""Waiting that a cancellation does not cut short."""

import asyncio
from collections.abc import Callable
from typing import Any


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
        on_cancel: Called at each cancellation, to hurry what is waited for.

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
            await asyncio.wait((future,), timeout=left)
        except asyncio.CancelledError as error:
            cancelled = error
            if on_cancel is not None:
                on_cancel()
    return cancelled
