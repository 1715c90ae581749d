"""A thread with a loop that does what callers of the facade block for, and all that is open on it.

    start ── anyio's blocking portal ── … ── shut_down ── pools closed, commands ended, calls settled ── thread gone

That there is one, and in which process, is the business of `process_wide.py`.
"""

import _thread
import asyncio
import concurrent.futures.thread  # noqa: F401  # refuses to be imported once the main thread has come to its end
import contextlib
import errno
import importlib
import threading
from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio
from anyio.from_thread import BlockingPortal

from aiocmdpool.backends.single_commands import SingleCommands
from aiocmdpool.commands.errors import ExecuteError, IoError, PoolClosed
from aiocmdpool.loops.gate import Gate
from aiocmdpool.loops.interruptions import wait_or_end

# What the thread would import by itself is imported now: a fork in the middle of it would leave the child with the lock
# of a module for good.
importlib.import_module("anyio._backends._asyncio")
try:
    importlib.import_module("uvloop")
    HAS_UVLOOP = True
except ImportError:
    HAS_UVLOOP = False

FORK_PATIENCE = 2.0  # seconds that a fork waits for the loop to stand still

Closer = Callable[[], Awaitable[object]]


class PendingCall(Protocol):
    """What the background thread knows of a call: see `calls.Call`."""

    def abandon(self, why: BaseException | None) -> None:
        """The loop is gone, for a reason or in good order; whoever waits for the call is told."""

    def cancel_now(self) -> "asyncio.Task[None] | None":
        """Cancel it, from the loop; what is still to be waited for then, if anything."""


living: "set[Background]" = set()
"""Those whose threads have not come to their ends, in this process."""


class Background:
    """A loop in a thread of its own.

    Concurrency: may be started by any number of threads, and by signal handlers and destructors that interrupt each
    other in the middle of that. So nothing here holds a lock; a `threading.Thread` is started by a thread of no
    Python code but ours: its `start` waits, and holds a lock meanwhile that the new thread takes.
    """

    loop: asyncio.AbstractEventLoop
    backend: SingleCommands
    """What `run` and `execute` use."""

    def __init__(self) -> None:
        self.ended = False
        """It takes no more calls."""
        self.failure: BaseException | None = None
        """What ended it, if not `shut_down`."""
        self.inherited = False
        """It is that of the parent of this forked process."""
        self.calls: set[PendingCall] = set()
        """Those that are not settled."""
        self.open: dict[object, Closer] = {}
        """What has to be closed at the end, and how."""
        self.following: dict[None, Background] = {}
        """The one that was made when this had ended."""
        self._not_begun = [None]  # whoever takes this off begins
        self._starter = 0  # the ident of the thread that did
        self._thread: threading.Thread | None = None
        self._closing: set[asyncio.Task[object]] = set()
        self._portal: BlockingPortal | None = None
        self._stop: asyncio.Task[None] | None = None
        self.ready = Gate()
        """Open once there is a loop, or never will be."""
        self.gone = Gate()
        """Open once all is over."""

    def start(self) -> None:
        """Start the thread, if nobody has, and wait for the loop.

        Raises:
            IoError: There are no more threads.
            ExecuteError: This is a destructor that runs in the very thread that starts it.
        """
        if self._not_begun:  # perhaps by a frame that this interrupts, which does it later: so do it now
            try:
                _thread.start_new_thread(self._begin, ())
            except RuntimeError as error:
                raise _no_thread(error) from error
        if threading.get_ident() in (self._starter, self._thread and self._thread.ident):
            raise ExecuteError("aiocmdpool.sync is being started by this thread; use it in another one")
        self.ready.wait()
        if self._failed_to_start:
            raise _no_thread(self.failure) from self.failure

    @property
    def _failed_to_start(self) -> bool:
        return self.ended and not hasattr(self, "loop")

    def _begin(self) -> None:
        """Start the thread of the loop, from a thread that nobody interrupts."""
        try:
            self._not_begun.pop()
        except IndexError:  # somebody else has
            return
        self._starter = threading.get_ident()
        try:
            # A daemon: the interpreter waits for other threads before it calls what is registered with `atexit`.
            self._thread = threading.Thread(target=self._run, name="aiocmdpool-sync", daemon=True)
            living.add(self)
            self._thread.start()
        except BaseException as error:
            self._end_with(error)
        finally:
            self._starter = 0

    def _end_with(self, error: BaseException) -> None:
        self.failure = error
        self.ended = True
        self.ready.open()
        living.discard(self)
        self.gone.open()

    def _run(self) -> None:
        try:
            anyio.run(self._serve, backend="asyncio", backend_options={"use_uvloop": HAS_UVLOOP})
        except BaseException as error:  # SystemExit and the like, raised by an executor: the next call gets a new loop
            self.failure = error
            self.ended = True
        finally:
            self.ready.open()
            # A call is in the set before it is given to the loop; so it is found here, or finds the loop closed.
            for call in list(self.calls):
                call.abandon(self.failure)
            living.discard(self)
            self.gone.open()

    async def _serve(self) -> None:
        async with BlockingPortal() as portal:
            self._portal = portal
            self.loop = asyncio.get_running_loop()
            self.backend = SingleCommands()
            self.ready.open()
            try:
                await portal.sleep_until_stopped()
            finally:
                self.ended = True
                await self._close_all()

    async def _close_all(self) -> None:
        """End everything. What is called meanwhile is refused, by the pools or because of `ended`."""
        closing = [close() for close in list(self.open.values())]
        self.open.clear()
        await asyncio.gather(self.backend.aclose(), *closing, *self._closing, return_exceptions=True)
        left = [task for call in list(self.calls) if (task := call.cancel_now()) is not None]
        if left:
            await asyncio.wait(left)

    def close_soon(self, key: object) -> None:
        """Close one thing without waiting for it, from any thread; one that nobody can use any more."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and that with it
            self.loop.call_soon_threadsafe(self._close_one, key)

    def _close_one(self, key: object) -> None:
        close = self.open.pop(key, None)
        if close is not None:
            task: asyncio.Task[object] = asyncio.ensure_future(_awaited(close))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def pause(self, go_on: Gate) -> None:
        """Bring the loop to a stand between two callbacks, for a fork; it goes on when the gate is opened."""
        self.ready.wait(FORK_PATIENCE)
        if self.ended or self._thread is None or threading.get_ident() == self._thread.ident:
            return
        stands = Gate()

        def stand() -> None:
            stands.open()
            go_on.wait()

        with contextlib.suppress(RuntimeError, AttributeError):  # the loop is closed, or not there yet
            self.loop.call_soon_threadsafe(stand)
            stands.wait(FORK_PATIENCE)

    def _stop_soon(self, portal: BlockingPortal) -> None:
        if self._stop is None:
            self._stop = self.loop.create_task(portal.stop())

    def shut_down(self, patience: float | None = None) -> None:
        """Close what is open, end what runs, and return when the thread is gone.

        Args:
            patience: Seconds after which a loop that does not answer, because an executor or a hook blocks it, is left
                to itself. `None`: never.

        Raises:
            BaseException: What interrupted this; raised when it is done nevertheless.
        """
        wait_or_end(lambda: self._end(patience), lambda: self._end(patience))

    def _end(self, patience: float | None) -> None:
        self.ready.wait()
        if self._portal is not None:
            answers = Gate()
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self.loop.call_soon_threadsafe(self._stop_soon, self._portal)
                self.loop.call_soon_threadsafe(answers.open)
                if not answers.wait(patience) and not self.gone.is_open:
                    return
        self.gone.wait()
        if self._thread is not None and self._thread.ident is not None:  # it was started
            self._thread.join()  # not before: up to 3.12, a join that is interrupted takes a living thread for gone


def _no_thread(why: BaseException | None) -> ExecuteError:
    if "shutdown" in str(why):
        return PoolClosed(
            "the main thread has ended, and this interpreter starts no threads any more (CPython 3.12): have the "
            "main thread wait, or use aiocmdpool.sync once before it ends"
        )
    message = f"aiocmdpool.sync could not start its thread ({why}): allow more processes (ulimit -u), or try later"
    return IoError(message, errno=errno.EAGAIN)


async def _awaited(close: Closer) -> object:
    return await close()
