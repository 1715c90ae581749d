"""The one background of this process: from its first use to `shutdown`, a fork, or the end of the interpreter.

After `os.fork` the child has no background thread; it gets one on its first use there. Objects that were open in the
parent raise an error in the child, because their loop and workers are the parent's. During the fork the loop is paused
between two callbacks: inside of one it could hold a lock that would never be released in the child, or a pipe of a
starting program, which would not see its end as long as the child lives.
"""

import atexit
import concurrent.futures.thread
import contextlib
import os
import threading
import time
from collections.abc import Collection
from typing import NoReturn

from aiocmdpool.commands.errors import PoolClosed
from aiocmdpool.loops.gate import Gate
from aiocmdpool.sync.background import Background, living
from aiocmdpool.sync.no_loop import check_no_loop
from aiocmdpool.sync.real_threads import check_real_threads
from aiocmdpool.system.safe_log import SafeLog

EXITS = "the interpreter exits: aiocmdpool.sync takes no more commands"
EXIT_TIMEOUT = 5.0  # seconds after which an exiting interpreter abandons a loop that does not answer

# No lock: a signal handler or a destructor that uses the facade may run in the middle of all of this.
_first: dict[None, Background] = {}
_current: Background | None = None  # the latest background that a caller has got
_exiting_in = 0  # ident of the thread that ends the interpreter
_leaving: frozenset[int] = frozenset()  # idents of the threads that have to leave before that
_told = False  # whether it was logged that these threads leave
_log = SafeLog("aiocmdpool")


def background() -> Background:
    """Return the background of this process, started if there was none."""
    latest = _current
    if latest is None or latest.ended or _exiting_in or not latest.ready.is_open:
        latest = _new()
    return latest


def _new() -> Background:
    global _current
    if _exiting_in:
        stay_if_exiting()
        raise PoolClosed(EXITS)
    check_real_threads()
    background = _current
    following = _first if background is None else background.following
    while background is None or background.ended:
        background = following.setdefault(None, Background())  # atomic: of several threads here, one wins
        following = background.following
    _current = background  # an interrupted thread may set it back, to a background that is followed by the other
    background.start()
    return background


def shutdown() -> None:
    """Close every open pool, end every command, and stop the background thread; the next use starts a new one.

    Called automatically at the end of the interpreter. Threads that wait for a command get `TaskCancelled`, later calls
    of a closed pool `PoolClosed`. Harmless when repeated, or when nothing was used.

    Raises:
        ExecuteError: An event loop runs in this thread.
    """
    check_no_loop("shutdown")
    for background in tuple(living):
        background.shut_down()


# -- the end of the interpreter ---------------------------------------------------------------------------------------


def stay_if_exiting() -> None:
    """Block for good if the interpreter exits, in any thread but the one that ends it.

    The awaited commands have been ended, but telling these threads would start tracebacks and more commands in daemon
    threads, which are meant to be cut off wherever they are.
    """
    if _exiting_in and threading.get_ident() != _exiting_in:
        _stay()


def stay_or_leave_at_exit() -> None:
    """Block for good if the interpreter exits; in a thread of an executor, for which it waits, raise instead.

    Raises:
        PoolClosed: The interpreter exits, and this is a thread of an executor.
    """
    global _told
    stay_if_exiting()
    if _leaving and threading.get_ident() in _leaving:
        if not _told:
            _told = True
            _log.warning(
                "the interpreter exits: what threads of executors wait for is ended; to have it finished, shut the "
                "executor down first"
            )
        raise PoolClosed(EXITS)


def _stay() -> NoReturn:
    while True:
        time.sleep(3600)


def _end_jobs() -> None:
    """Let the threads of executors leave, because the main thread has ended.

    For the user of an executor they are like daemons, but the interpreter waits for their jobs. It does so before it
    calls `atexit` functions; this hook comes before that.
    """
    global _leaving
    _leaving = frozenset(thread.ident for thread in tuple(_executor_threads) if thread.ident is not None)


_executor_threads: Collection[threading.Thread] = getattr(concurrent.futures.thread, "_threads_queues", ())
getattr(threading, "_register_atexit", atexit.register)(_end_jobs)


@atexit.register
def _at_exit() -> None:
    global _exiting_in
    _exiting_in = threading.get_ident()
    for background in tuple(living):
        # An interruption is raised after all has been ended, and nobody is left to handle it.
        with contextlib.suppress(BaseException):
            background.shut_down(EXIT_TIMEOUT)


# -- fork --------------------------------------------------------------------------------------------------------------

generation = 0
"""Number of forks between this process and the one that imported this module."""
_paused: dict[int, Gate] = {}  # by the ident of the forking thread
_inherited: list[Background] = []  # never freed: their resources are in use by a thread that does not exist here


def _before_fork() -> None:
    if living:
        _paused[threading.get_ident()] = go_on = Gate()
        for background in tuple(living):
            background.pause(go_on)


def _after_fork_in_parent() -> None:
    go_on = _paused.pop(threading.get_ident(), None)
    if go_on is not None:
        go_on.open()


def _after_fork_in_child() -> None:
    global _first, _current, _exiting_in, _leaving, generation
    generation += 1
    _exiting_in, _leaving = 0, frozenset()
    _paused.clear()
    for background in living:
        background.inherited = True
        _inherited.append(background)
    inherited = tuple(living)
    living.clear()
    _first, _current = {}, None
    for background in inherited:
        for call in tuple(background.calls):  # copies: the parent's go on
            call.abandon(None)


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
