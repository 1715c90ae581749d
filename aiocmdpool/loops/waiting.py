"""`wait_through`: waiting that a cancellation does not cut short."""

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

import anyio

_process = object()
"""Stands for this process: a forked child has another one."""


def _in_fork() -> None:
    global _process
    _process = object()


os.register_at_fork(after_in_child=_in_fork)


async def wait_through(
    future: "asyncio.Future[Any]",
    seconds: float | None = None,
    on_cancel: Callable[[], None] | None = None,
) -> asyncio.CancelledError | None:
    """Wait for a future, for `seconds` at most, through any number of cancellations of the caller.

    The future itself is never cancelled, and its outcome is not retrieved.

    Args:
        future: The future to wait for.
        seconds: Seconds to wait; `None` for no limit.
        on_cancel: Called at each cancellation, to end the wait sooner. A scope of anyio counts once.

    In a forked child, a wait of its parent ends by its first cancellation.

    Returns:
        The last cancellation that arrived, or `None`; the caller has to raise it when its work is done.
    """
    cancelled: asyncio.CancelledError | None = None
    process = _process
    loop = asyncio.get_running_loop()
    deadline = None if seconds is None else loop.time() + seconds
    while not future.done():
        left = None if deadline is None else deadline - loop.time()
        if left is not None and left <= 0:
            break
        try:
            if cancelled is None:  # most waits are not cancelled, and a scope costs as much as some of them
                await asyncio.wait((future,), timeout=left)
            else:
                with shielded():
                    await asyncio.wait((future,), timeout=left)
        except asyncio.CancelledError as error:
            if process is not _process:  # a forked child unwinds: what its parent waits for never ends here
                raise
            cancelled = error
            if on_cancel is not None:
                on_cancel()
    return cancelled


def shielded() -> AbstractContextManager[object]:
    """Return a context that shields its awaits from anyio's cancel scopes; `Task.cancel` still arrives.

    A cancelled scope of anyio cancels its tasks again in every iteration of the loop as long as they wait (Starlette
    does that to the endpoint of a client that has left): waiting on would keep the loop busy.
    """
    # A caller with a scope has loaded this module; others need not import it in the middle of their loop.
    return _Shield() if "anyio._backends._asyncio" in sys.modules else nullcontext()


class _Shield:
    def __init__(self) -> None:
        self._scope = anyio.CancelScope(shield=True)

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not GeneratorExit:  # the coroutine is collected: no task could leave the scope
            self._scope.__exit__(kind, error, traceback)
