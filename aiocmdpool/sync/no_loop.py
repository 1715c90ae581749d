"""Where the facade may block."""

import asyncio

from aiocmdpool.commands.errors import ExecuteError


def check_no_loop(name: str) -> None:
    """That blocking this thread stops nobody's loop.

    Args:
        name: What was called, as it is called in `aiocmdpool` as well.

    Raises:
        ExecuteError: It would.
    """
    if asyncio._get_running_loop() is not None:  # a tenth of what `get_running_loop` and its exception cost
        raise ExecuteError(
            f"aiocmdpool.sync.{name} would block the event loop that runs in this thread; there, use aiocmdpool.{name} "
            "with await, or call this in another thread (asyncio.to_thread)"
        )
