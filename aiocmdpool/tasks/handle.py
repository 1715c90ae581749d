"""`TaskHandle`: the handle of one command that a pool has accepted."""

import asyncio
import contextlib
import contextvars
import dataclasses
import itertools
from collections.abc import Callable, Generator
from time import monotonic  # not `loop.time()`, which has a resolution of 1 ms in uvloop
from typing import TYPE_CHECKING, Any, Protocol

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ExecuteError, TaskCancelled
from aiocmdpool.commands.result import CommandResult, EndReason
from aiocmdpool.loops.waiting import wait_through
from aiocmdpool.system.safe_log import SafeLog
from aiocmdpool.tasks.status import TaskStatus

if TYPE_CHECKING:
    from aiocmdpool.commands.run_control import RunControl

_ids = itertools.count(1)
_log = SafeLog("aiocmdpool")


@dataclasses.dataclass(frozen=True, slots=True)
class Cancellation:
    """The reason why any number of tasks were cancelled; the error of each is made on demand.

    Making a million errors at once would make the garbage collector stop the loop for a long time.
    """

    why: str
    reason: EndReason = EndReason.CANCELLED

    def error_of(self, command: CommandConfig) -> TaskCancelled:
        """Return the `TaskCancelled` error of the task that ran `command`."""
        return TaskCancelled(f"{command.display()}: {self.why}", command=command, end_reason=self.reason)


_DoneCallback = tuple[Callable[["TaskHandle"], object], contextvars.Context]


class TaskOwner(Protocol):
    """The interface of a pool that its task handles use."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop that the tasks belong to."""

    def cancel_task(self, handle: "TaskHandle") -> None:
        """Withdraw the task of `handle` if it is pending, or end it if it is running."""


class TaskHandle:
    """Handle of one task: its id, its status, and its outcome once there is one. Await it for the result.

    Awaiting it twice, or from several places, is fine. Cancelling an await of it leaves the task alone: use `cancel`.
    An outcome that nobody reads is dropped silently; the statistics of the pool still count it.

    Concurrency: belongs to the loop of its pool, like an `asyncio.Future`.
    """

    __slots__ = (
        "_callbacks",
        "_error",
        "_owner",
        "_result",
        "_waiters",
        "_withdrawn_at",
        "cancellation",
        "command",
        "control",
        "id",
        "priority",
        "pushed_at",
        "started_at",
        "status",
    )

    def __init__(self, command: CommandConfig, owner: TaskOwner, priority: int = 0) -> None:
        self.id: int = next(_ids)
        """Number of the task, unique and growing in this process."""
        self.command = command
        self.priority = priority
        self.status = TaskStatus.PENDING
        self.pushed_at = monotonic()
        self.started_at: float | None = None
        self.cancellation: TaskCancelled | None = None
        """Error that the task will end with, set while its run is being ended by `cancel`."""
        self.control: RunControl | None = None
        """Access to the run in progress, for `open`; `None` otherwise."""
        self._owner = owner
        self._withdrawn_at: float | None = None
        self._result: CommandResult | None = None
        self._error: BaseException | Cancellation | None = None
        self._waiters: list[asyncio.Future[None]] | None = None
        self._callbacks: list[_DoneCallback] | None = None

    @property
    def queued(self) -> float:
        """Return the seconds that the task has waited in the queue, until its start, its withdrawal, or now."""
        for left_at in (self.started_at, self._withdrawn_at):
            if left_at is not None:
                return left_at - self.pushed_at
        return monotonic() - self.pushed_at

    def done(self) -> bool:
        """Return whether the task is settled, that is, has an outcome."""
        return self.status.finished

    def cancelled(self) -> bool:
        """Return whether the task was cancelled."""
        return self.status is TaskStatus.CANCELLED

    def cancel(self) -> bool:
        """Withdraw the task if it is pending, or end its command if it is running.

        A pending task is settled at once and gives its place in the queue back; a running one is settled when its
        command is dead, with a `TaskCancelled` that carries the output so far.

        Returns:
            `True` if the task was not settled yet.
        """
        if self.done():
            return False
        self._owner.cancel_task(self)
        return True

    def result(self) -> CommandResult:
        """Return the result of a settled task, or raise its error.

        Raises:
            asyncio.InvalidStateError: It is not settled yet.
            ExecuteError: What went wrong; `TaskCancelled` if it was cancelled.
        """
        error = self.exception()
        if error is not None:
            try:
                raise error
            finally:  # break the cycle of error, traceback and frame: the error may hold much output
                del error, self
        assert self._result is not None
        return self._result

    def exception(self) -> BaseException | None:
        """Return the error of a settled task, or `None` if it has a result.

        Raises:
            asyncio.InvalidStateError: It is not settled yet.
        """
        if not self.done():
            raise asyncio.InvalidStateError(f"{self!r} is not settled yet; await it first")
        if isinstance(self._error, Cancellation):
            error = self._error.error_of(self.command)
            error.task_id = self.id
            self._error = error
        return self._error

    def add_done_callback(
        self, callback: "Callable[[TaskHandle], object]", *, context: contextvars.Context | None = None
    ) -> None:
        """Call `callback(handle)` from the loop once the task is settled, or soon if it already is.

        Once that loop is closed, the thread that settles the task makes the call.

        Args:
            callback: The function to call; its exceptions go to the exception handler of the loop.
            context: The context to run it in; by default a copy of the caller's, as with `asyncio.Future`.
        """
        entry = callback, context or contextvars.copy_context()
        if self.done():
            self._call_soon(*entry)
        elif self._callbacks is None:
            self._callbacks = [entry]
        else:
            self._callbacks.append(entry)

    def remove_done_callback(self, callback: "Callable[[TaskHandle], object]") -> int:
        """Remove all registrations of `callback`, and return how many there were."""
        before = self._callbacks or []
        self._callbacks = [entry for entry in before if entry[0] != callback]
        return len(before) - len(self._callbacks)

    def __await__(self) -> Generator[Any, None, CommandResult]:
        if not self.done():
            waiter = self._waiter()
            try:
                yield from waiter
            finally:
                self._drop(waiter)
        try:
            return self.result()
        finally:
            del self  # see `result`

    async def result_or_cancel(self) -> CommandResult:
        """Await the result, and cancel the task if this await is cancelled.

        Cancellation: the task is cancelled and settled before `CancelledError` is raised.
        """
        try:
            return await self
        except asyncio.CancelledError as cancellation:
            try:
                self.cancel()
                await self.wait_settled()
                cause = self.exception()  # it carries the output so far
            except ExecuteError as failure:  # nobody can cancel or settle it: a task of the parent of this process
                cause = failure
            raise cancellation from cause
        finally:
            del self  # see `result`

    async def wait_settled(self) -> asyncio.CancelledError | None:
        """Wait until the task is settled, whatever cancels this wait; return that cancellation, or `None`."""
        if self.done():
            return None
        waiter = self._waiter()
        cancelled = await wait_through(waiter)
        waiter.result()  # raises if nobody can settle it
        return cancelled

    def _waiter(self) -> "asyncio.Future[None]":
        loop = self._owner.loop
        if asyncio.get_running_loop() is not loop:
            message = f"{self!r} belongs to another event loop; await it there, or use CommandPoolSeg"
            raise ExecuteError(message, command=self.command)
        waiter = loop.create_future()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        return waiter

    def _drop(self, waiter: "asyncio.Future[None]") -> None:
        if self._waiters is not None:  # still set: the waiter's coroutine was cancelled while the task goes on
            self._waiters.remove(waiter)

    # -- for the pool -----------------------------------------------------------------------------------------------

    def settle(
        self,
        status: TaskStatus,
        result: CommandResult | None = None,
        error: BaseException | Cancellation | None = None,
    ) -> None:
        """Set the outcome of the task. The pool calls this exactly once."""
        assert not self.done(), f"{self!r} was settled twice"
        if self.started_at is None:
            self._withdrawn_at = monotonic()
        self._result, self._error = result, error
        self.status = status  # last, because a thread that sees it settled reads the outcome at once
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits there any more
                    waiter.set_result(None)
        callbacks, self._callbacks = self._callbacks, None
        for callback, context in callbacks or ():
            self._call_soon(callback, context)

    def _call_soon(self, callback: "Callable[[TaskHandle], object]", context: contextvars.Context) -> None:
        loop = self._owner.loop
        if not loop.is_closed():
            loop.call_soon(callback, self, context=context)
            return
        try:
            context.run(callback, self)
        except BaseException:  # without a loop nobody would handle it, and further callbacks have to run
            _log.exception("error in a callback of %r", self)

    def __repr__(self) -> str:
        return f"<TaskHandle {self.id} {self.status.value} {self.command.display(60)!r}>"
