"""Handles Ctrl-C, Ctrl-Z and SIGTERM as events of the loop.

The terminal sends Ctrl-C and Ctrl-Z to every process in the foreground. The commands are not among them (they run in
sessions and groups of their own), so this program has to decide what happens to them.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator

CONTINUED_AFTER = 0.05  # seconds within which the SIGCONT that has woken this process is delivered, too


@contextlib.contextmanager
def interrupts(
    on_interrupt: Callable[[], None], on_terminate: Callable[[], None], on_suspend: Callable[[], None]
) -> Iterator[None]:
    """Within the block, call these functions instead of dying of SIGINT and SIGTERM, or stopping on SIGTSTP.

    A SIGINT that was ignored at the start stays ignored: that is how a shell keeps Ctrl-C from its background jobs. So
    does a SIGTSTP, as set by a shell without job control.
    """
    loop = asyncio.get_running_loop()
    wanted = {signal.SIGINT: on_interrupt, signal.SIGTSTP: on_suspend}
    callbacks = {number: call for number, call in wanted.items() if signal.getsignal(number) is not signal.SIG_IGN}
    callbacks[signal.SIGTERM] = on_terminate
    for number, callback in callbacks.items():
        loop.add_signal_handler(number, callback)
    try:
        yield
    finally:
        for number in callbacks:
            loop.remove_signal_handler(number)


def stop_until_continued() -> None:
    """Stop this process, as SIGTSTP would have done; return when it has been continued.

    The kernel does not stop a process group that nobody would continue (POSIX, "orphaned process group"). Whoever has
    sent the signal without a terminal will continue it, so then it is stopped all the same.
    """
    continued: list[int] = []
    handler = signal.getsignal(signal.SIGTSTP)
    signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    on_continue = signal.signal(signal.SIGCONT, lambda number, _: continued.append(number))
    try:
        os.kill(os.getpid(), signal.SIGTSTP)
        deadline = time.monotonic() + CONTINUED_AFTER
        while not continued and time.monotonic() < deadline:
            time.sleep(0.001)
        if not continued and not _has_terminal():
            os.kill(os.getpid(), signal.SIGSTOP)
    finally:
        signal.signal(signal.SIGCONT, on_continue)
        signal.signal(signal.SIGTSTP, handler)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
