"""`Background`: a thread with an event loop that does the work of blocking callers, and everything open on that loop.

    start ── anyio's blocking portal ── … ── shut_down ── pools closed, commands ended, calls answered ── thread gone

`process_wide.py` decides when there is one, in each process.
"""

import _thread
import asyncio
import concurrent.futures.thread  # noqa: F401  # cannot be imported once the main thread has ended
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

# Import now what the thread would import itself: a fork in the middle of such an import would leave the child with a
# module lock that is never released.
importlib.import_module("anyio._backends._asyncio")
try:
    importlib.import_module("uvloop")
    HAS_UVLOOP = True
except ImportError:
    HAS_UVLOOP = False

FORK_TIMEOUT = 2.0  # seconds that a fork waits for the loop to pause

Closer = Callable[[], Awaitable[object]]


class PendingCall(Protocol):
    """The interface of a call that the background thread uses; see `calls.Call`."""

    def abandon(self, why: BaseException | None) -> None:
        """End the call with an error, because the loop is gone.

        Args:
            why: The exception that ended the loop; `None` for an orderly end.
        """

    def cancel_now(self) -> "asyncio.Task[None] | None":
        """Cancel the call, on the loop; return its task if that still has to end."""


living: "set[Background]" = set()
"""Backgrounds of this process whose threads have not ended."""


class Background:
    """An event loop in a thread of its own.

    Concurrency: it may be started by any number of threads, and by signal handlers and destructors that interrupt each
        other while doing so. So nothing here holds a lock, and the `threading.Thread` is started from a helper thread
        that runs only code of ours: `Thread.start` waits, and meanwhile holds a lock that the new thread takes.
    """

    loop: asyncio.AbstractEventLoop
    backend: SingleCommands
    """Backend of `run` and `execute`."""

    def __init__(self) -> None:
        self.ended = False
        """Whether the background takes no more calls."""
        self.failure: BaseException | None = None
        """Exception that ended it; `None` if that was `shut_down`."""
        self.inherited = False
        """Whether the background belongs to the parent of this forked process."""
        self.calls: set[PendingCall] = set()
        """Calls that are not done."""
        self.open: dict[object, Closer] = {}
        """Objects to close at the end, each with the function that closes it."""
        self.following: dict[None, Background] = {}
        """The background that was made after this one had ended, under the key `None`."""
        self._not_begun = [None]  # the caller that pops the item starts the thread
        self._starter = 0  # the ident of the helper thread that does
        self._thread: threading.Thread | None = None
        self._closing: set[asyncio.Task[object]] = set()
        self._portal: BlockingPortal | None = None
        self._stop: asyncio.Task[None] | None = None
        self.ready = Gate()
        """Open once there is a loop, or it is certain that there will be none."""
        self.gone = Gate()
        """Open once the thread has ended everything."""

    def start(self) -> None:
        """Start the thread, unless it was started before, and wait for its loop.

        Raises:
            IoError: The system allows no more threads.
            ExecuteError: This is a destructor that interrupts the very thread that starts it.
        """
        if self._not_begun:  # also if an interrupted frame is about to: it cannot go on before this returns
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
        """Start the thread of the loop, from a helper thread that no signal handler interrupts."""
        try:
            self._not_begun.pop()
        except IndexError:  # another helper has
            return
        self._starter = threading.get_ident()
        try:
            # A daemon, because the interpreter joins other threads before it calls `atexit` functions.
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
            # A call joins the set before it is given to the loop, so it is found here, or it finds the loop closed.
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
        """Close everything and end all calls. Calls that come meanwhile are refused, by pools or due to `ended`."""
        closing = [close() for close in list(self.open.values())]
        self.open.clear()
        await asyncio.gather(self.backend.aclose(), *closing, *self._closing, return_exceptions=True)
        left = [task for call in list(self.calls) if (task := call.cancel_now()) is not None]
        if left:
            await asyncio.wait(left)

    def close_soon(self, key: object) -> None:
        """Close the object `key`, which nobody can use any more, from any thread and without waiting."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the object with it
            self.loop.call_soon_threadsafe(self._close_one, key)

    def _close_one(self, key: object) -> None:
        close = self.open.pop(key, None)
        if close is not None:
            task: asyncio.Task[object] = asyncio.ensure_future(_awaited(close))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def pause(self, go_on: Gate) -> None:
        """Pause the loop between two callbacks, for a fork, until the gate `go_on` is opened."""
        self.ready.wait(FORK_TIMEOUT)
        if self.ended or self._thread is None or threading.get_ident() == self._thread.ident:
            return
        stands = Gate()

        def stand() -> None:
            stands.open()
            go_on.wait()

        with contextlib.suppress(RuntimeError, AttributeError):  # the loop is closed, or does not exist yet
            self.loop.call_soon_threadsafe(stand)
            stands.wait(FORK_TIMEOUT)

    def _stop_soon(self, portal: BlockingPortal) -> None:
        if self._stop is None:
            self._stop = self.loop.create_task(portal.stop())

    def shut_down(self, timeout: float | None = None) -> None:
        """Close all open objects, end all calls, and return when the thread has ended.

        Args:
            timeout: Seconds after which a loop that does not answer, because an executor or a hook blocks it, is
                abandoned. `None`: never.

        Raises:
            BaseException: An interruption of this call; raised after the shutdown is complete.
        """
        wait_or_end(lambda: self._end(timeout), lambda: self._end(timeout))

    def _end(self, timeout: float | None) -> None:
        self.ready.wait()
        if self._portal is not None:
            answers = Gate()
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self.loop.call_soon_threadsafe(self._stop_soon, self._portal)
                self.loop.call_soon_threadsafe(answers.open)
                if not answers.wait(timeout) and not self.gone.is_open:
                    return
        self.gone.wait()
        if self._thread is not None and self._thread.ident is not None:  # the thread was started
            self._thread.join()  # only now: up to 3.12, an interrupted join marks a living thread as ended


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
