"""`ThreadRun`: a run in a thread that blocks in poll(2) on its own pipes, exit, deadlines and a wake-up descriptor."""

import asyncio
import atexit
import contextlib
import functools
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable

from aiocmdpool.backends.child.command_run import CommandRun, not_started
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.result import CommandResult, EndReason
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.loops.blocking_loop import BlockingLoop
from aiocmdpool.standalone.kernel.transient import StartRetry
from aiocmdpool.system.output_budget import Allowance
from aiocmdpool.system.start_failure import start_failure

_running: "set[ThreadRun]" = set()
_threads: "weakref.WeakSet[threading.Thread]" = weakref.WeakSet()


def _end_all() -> None:
    """End all runs that nobody waits for any more, and their threads, because the interpreter exits."""
    for run in tuple(_running):
        run.end(EndReason.CLOSED)
    for thread in tuple(_threads):
        _stop(thread)


def _stop(thread: threading.Thread) -> None:
    """Let one of anyio's threads end after its present call; its loop, which should do so, may not run any more."""
    stop = getattr(thread, "stop", None)
    if stop is not None:
        with contextlib.suppress(queue.Full):  # the thread was asked to stop before
            stop()


def _forget_all() -> None:
    """Forget runs and threads in a forked child, which has none of these threads."""
    _running.clear()
    _threads.clear()


os.register_at_fork(after_in_child=_forget_all)
# A loop that ends without ending its tasks leaves runs behind. The interpreter joins their threads before it calls
# `atexit` functions; this hook, which `concurrent.futures` relies on as well, comes before that.
getattr(threading, "_register_atexit", atexit.register)(_end_all)


class ThreadRun:
    """One run of a command: `to_the_end` is for its thread, the rest for the thread of the event loop.

    Attributes:
        over: Resolved when nothing of the run is left, or it will never begin. A plain future, because `asyncio.run`
            cancels every task at its end.
    """

    def __init__(
        self,
        command: CommandConfig,
        loop: asyncio.AbstractEventLoop,
        control: RunControl | None = None,
        allowance: Allowance | None = None,
        python: str | None = None,
    ) -> None:
        self._allowance = allowance
        self._python = python
        self._command = command
        self._event_loop = loop
        self._control = control
        self.over: asyncio.Future[None] = loop.create_future()
        self._lock = threading.Lock()  # protects the next three
        self._begun = False
        self._reason: EndReason | None = None
        self._tell: CommandRun | None = None
        self._loop: BlockingLoop | None = None
        self._result: CommandResult | None = None
        self._error: BaseException | None = None

    # -- the event loop's side --------------------------------------------------------------------------------------

    def end(self, reason: EndReason) -> bool:
        """End the run with `reason`: kill the program, or never begin. The first reason wins.

        Returns:
            Whether the run had not begun.
        """
        with self._lock:
            self._reason = self._reason or reason
            if self._loop is not None and self._tell is not None:
                with contextlib.suppress(RuntimeError):  # the run has just ended
                    self._loop.call_soon_threadsafe(functools.partial(self._tell.end, self._reason))
            return not self._begun

    def withdraw(self, error: BaseException | None = None) -> None:
        """Fail a run that no thread will run any more; do nothing if its thread has begun.

        Args:
            error: The error of the run; `None` for the one of `end`.
        """
        if self.end(EndReason.CLOSED) and not self.over.done():
            self._error = error or not_started(self._command, self._reason or EndReason.CLOSED)
            self.over.set_result(None)

    def result(self) -> CommandResult:
        """Return the result of a finished run, or raise its error; only once.

        Raises:
            BaseException: The error of the run.
        """
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback refers to this run
        result, self._result = self._result, None  # an idle thread keeps its last call, and so this run
        assert result is not None
        return result

    # -- the thread's side ------------------------------------------------------------------------------------------

    def to_the_end(self) -> None:
        """Run the command in this thread, then notify the event loop."""
        with self._lock:
            if self._reason is not None:
                return  # withdrawn
            self._begun = True
        _running.add(self)
        _threads.add(threading.current_thread())
        try:
            self._run(self._open_loop())
        except BaseException as error:
            self._error = error
        finally:
            _running.discard(self)
        try:
            self._event_loop.call_soon_threadsafe(self.over.set_result, None)
        except RuntimeError:  # the event loop is closed, so nobody waits
            _stop(threading.current_thread())

    def _open_loop(self) -> BlockingLoop:
        """Return a new loop for this thread; if there are no descriptors for its wake-up, try again for a while."""
        retry = StartRetry()
        while True:
            try:
                return BlockingLoop()
            except OSError as error:
                delay = retry.delay(error.errno)
                if delay < 0:
                    raise start_failure(self._command, error) from None
                time.sleep(delay)  # not interruptible: there is no wake-up descriptor yet
                if self._reason is not None:
                    raise not_started(self._command, self._reason) from error

    def _run(self, loop: BlockingLoop) -> None:
        relay = None if self._control is None else _Relay(self._control, self._event_loop, loop)
        run = CommandRun(self._command, loop, control=relay, allowance=self._allowance, python=self._python)
        try:
            with self._lock:
                self._loop, self._tell = loop, run
                if self._reason is not None:
                    raise not_started(self._command, self._reason)
            with contextlib.closing(run.steps()) as steps:
                for wait in steps:
                    loop.run_until(wait.over, wait.seconds)
            self._result = run.take_result()
        finally:
            loop.close()


class _Relay(RunControl):
    """Forwards calls between a run in its thread and a control in the thread of the event loop."""

    __slots__ = ("_control", "_event_loop", "_lock", "_loop", "_over")

    def __init__(self, control: RunControl, event_loop: asyncio.AbstractEventLoop, loop: BlockingLoop) -> None:
        super().__init__(lambda: None, control.setup)
        self._control = control
        self._event_loop = event_loop
        self._loop = loop
        self._lock = threading.Lock()  # protects the next
        self._over = False

    def started(self, pid: int, send_signal: Callable[[int], None]) -> None:
        def signal_it(number: int) -> None:
            with self._lock:
                if not self._over:  # so it has not been reaped
                    send_signal(number)

        self._tell(functools.partial(self._control.started, pid, signal_it))

    def ended(self) -> None:
        with self._lock:
            self._over = True
        self._tell(self._control.ended)

    def _tell(self, word: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed, so nobody listens
            self._event_loop.call_soon_threadsafe(word)
