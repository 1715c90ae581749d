"""`check_no_loop`: refuses blocking calls in a thread that runs an event loop."""

import asyncio

from aiocmdpool.commands.errors import ExecuteError


def check_no_loop(name: str) -> None:
    """Raise `ExecuteError` if an event loop runs in this thread, which a blocking call would stop.

    Args:
        name: The name of what was called, which is the same in `aiocmdpool`.

    Raises:
        ExecuteError: An event loop runs in this thread.
    """
    if asyncio._get_running_loop() is not None:  # ten times faster than `get_running_loop` and its exception
        raise ExecuteError(
            f"aiocmdpool.sync.{name} would block the event loop that runs in this thread; there, use aiocmdpool.{name} "
            "with await, or call this in another thread (asyncio.to_thread)"
        )
