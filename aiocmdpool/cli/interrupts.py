"""Ctrl-C and SIGTERM, as events of the loop.

The terminal sends Ctrl-C to every process in the foreground. The commands are not among them (they run in sessions
and groups of their own), so it is ours to say what becomes of them.
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def interrupts(on_interrupt: Callable[[], None], on_terminate: Callable[[], None]) -> Iterator[None]:
    """Within the block, call these instead of dying of SIGINT and SIGTERM.

    A SIGINT that was ignored when we started stays ignored: that is how a shell keeps Ctrl-C from its background jobs.
    """
    loop = asyncio.get_running_loop()
    callbacks = {signal.SIGTERM: on_terminate}
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        callbacks[signal.SIGINT] = on_interrupt
    for number, callback in callbacks.items():
        loop.add_signal_handler(number, callback)
    try:
        yield
    finally:
        for number in callbacks:
            loop.remove_signal_handler(number)
