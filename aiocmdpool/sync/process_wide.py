"""The one background of this process: from its first use to `shutdown`, a fork, or the end of the interpreter.

After `os.fork` the child has no background thread; it gets one on its first use, and what the parent had open is an
error there, because its loop and its workers are the parent's. During the fork the loop stands still between two
callbacks: in the middle of one it could hold a lock that nobody gives back in the child, or a pipe of a program that is
being started, whose end it waits for as long as the child lives.
"""

import atexit
import contextlib
import os
import threading
import time
from typing import NoReturn

from aiocmdpool.commands.errors import PoolClosed
from aiocmdpool.loops.gate import Gate
from aiocmdpool.sync.background import Background
from aiocmdpool.sync.no_loop import check_no_loop

EXIT_PATIENCE = 5.0  # seconds after which the interpreter leaves a loop alone that does not answer

# Reentrant: a signal handler that uses the facade may run while its own thread is in here.
_lock = threading.RLock()
_current: Background | None = None
_earlier: list[Background] = []  # those that were shut down, and whose threads may not have come to their ends
_exiting_in = 0  # the ident of the thread that ends the interpreter


def current() -> Background:
    """That of this process; started if there is none."""
    background = _current
    if background is None or background.ended or _exiting_in or not background.ready.is_open:
        background = _new()
    return background


def _new() -> Background:
    global _current
    if _exiting_in:
        stay_if_exiting()
        raise PoolClosed("the interpreter exits: aiocmdpool.sync takes no more commands")
    with _lock:
        background = _current
        if background is None or background.ended:
            _earlier[:] = [each for each in (*_earlier, background) if each is not None and not each.gone.is_open]
            _current = background = Background(_is_current)
            try:
                background.start()
            except BaseException:
                _current = None
                raise
    background.ready.wait()
    return background


def _is_current(background: Background) -> bool:
    with _lock:
        return background is _current


def shutdown() -> None:
    """Close every open pool, end every command, and stop the background thread; the next use starts a new one.

    Happens by itself at the end of the interpreter. Those who wait for a command meanwhile get `TaskCancelled`, those
    who come to a closed pool `PoolClosed`. Harmless when repeated, or when nothing was used.

    Raises:
        ExecuteError: An event loop runs in this thread.
    """
    check_no_loop("shutdown")
    background = _current
    if background is not None:
        background.shut_down()


# -- the end of the interpreter ---------------------------------------------------------------------------------------


def stay_if_exiting() -> None:
    """At the end of the interpreter: do not return, in any thread but the one that ends it.

    What they wait for has been ended, but to tell them would start tracebacks and more commands, in threads that are
    about to be cut off wherever they are (daemons), because that is what they were meant for.
    """
    if _exiting_in and threading.get_ident() != _exiting_in:
        _stay()


def _stay() -> NoReturn:
    while True:
        time.sleep(3600)


@atexit.register
def _at_exit() -> None:
    global _exiting_in
    _exiting_in = threading.get_ident()
    for background in (*_earlier, _current):
        if background is not None:
            # An interruption has waited until all was ended; there is nobody left to whom it could matter.
            with contextlib.suppress(BaseException):
                background.shut_down(EXIT_PATIENCE)


# -- fork --------------------------------------------------------------------------------------------------------------

_paused: dict[int, Gate] = {}  # by the thread that forks
_inherited: list[Background] = []  # never freed: what they refer to is in use by a thread that is not there


def _before_fork() -> None:
    if _current is not None:
        _paused[threading.get_ident()] = go_on = Gate()
        _current.pause(go_on)


def _after_fork_in_parent() -> None:
    go_on = _paused.pop(threading.get_ident(), None)
    if go_on is not None:
        go_on.open()


def _after_fork_in_child() -> None:
    global _lock, _current, _exiting_in
    _lock = threading.RLock()  # another thread may have held the old one
    _exiting_in = 0
    _paused.clear()
    for background in (*_earlier, _current):
        if background is not None:
            background.inherited = True
            _inherited.append(background)
    _earlier.clear()
    _current = None


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
