"""The facade used in the middle of its own code: what a signal handler, or a destructor, may do at any line of it."""

import contextlib
import faulthandler
import sys
import threading

from aiocmdpool import (
    CommandConfig,
    CommandResult,
    ExecuteError,
    ExecutionConfig,
    ExecutionMode,
    PoolClosed,
    TaskCancelled,
    sync,
)

from .common import say

COMMAND = CommandConfig("true")
INSIDE = ("aiocmdpool/sync/", "aiocmdpool/loops/", "aiocmdpool/tasks/", "/threading.py")
JAMMED = 15  # seconds


class Instant:
    """An executor that ends each command at once."""

    async def execute(self, command):
        return CommandResult(command, 0, b"", b"", 1, 0.0)


def at_each_line(use, interrupt):
    """Call `use` again and again, and `interrupt` at its first line in the files above, at the next one, …

    Returns:
        How many lines there were.
    """
    seen = set()
    while True:
        before = len(seen)

        def trace(frame, event, _):
            line = (frame.f_code.co_filename, frame.f_lineno)
            if event == "line" and line not in seen and any(part in line[0] for part in INSIDE):
                seen.add(line)
                sys.settrace(None)
                interrupt()
            return trace

        faulthandler.dump_traceback_later(JAMMED, exit=True)
        sys.settrace(trace)
        try:
            use()
        finally:
            sys.settrace(None)
        faulthandler.cancel_dump_traceback_later()
        if len(seen) == before:
            return before


def first_use():
    """Each use is the first after a shutdown, and so is what interrupts it, or the shutdown."""

    def interrupt():
        with contextlib.suppress(TaskCancelled, PoolClosed):  # in the middle of the shutdown
            sync.run("true", mode=ExecutionMode.PROCESS)

    def use_anew():
        sync.shutdown()
        sync.run("true", mode=ExecutionMode.PROCESS)  # a worker for each line would take long

    lines = at_each_line(use_anew, interrupt)
    say(lines > 50, len([each for each in threading.enumerate() if each.name == "aiocmdpool-sync"]))


def result(kind):
    """The interruption waits for the loop that is about to settle the task."""
    config = ExecutionConfig(concurrency_limit=2)
    with getattr(sync, kind)(config, executor=Instant()) as pool, sync.CommandPool(executor=Instant()) as other:
        lines = at_each_line(lambda: pool.push_task(COMMAND).result(), lambda: other.execute(COMMAND))
    say(lines > 20)


def in_the_thread_that_starts_it():
    """A destructor that the garbage collector calls there cannot be served, and is told so."""
    start = threading.Thread.start

    def collect_garbage(thread):
        if thread.name == "aiocmdpool-sync":
            try:
                sync.run("true")
            except ExecuteError as error:
                say(error)
        start(thread)

    threading.Thread.start = collect_garbage
    say(sync.run("echo", "hello").text().strip())


def no_more_threads():
    """Whoever comes first is told, and the next one may have better luck."""
    start = threading.Thread.start

    def refuse(thread):
        threading.Thread.start = start
        raise RuntimeError("can't start new thread")

    threading.Thread.start = refuse
    try:
        sync.run("true")
    except ExecuteError as error:
        say(type(error).__name__, error)
    say(sync.run("echo", "hello").text().strip())
