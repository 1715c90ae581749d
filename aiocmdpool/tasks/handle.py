"""`TaskHandle`: one command that a pool has accepted, as its caller sees it."""

import asyncio
import contextlib
import contextvars
import dataclasses
import itertools
from collections.abc import Callable, Generator
from time import monotonic  # `loop.time()` of uvloop counts milliseconds
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
    """Why a task was cancelled, for any number of tasks: the error of each is made when somebody asks for it.

    A million errors at once would have the garbage collector stop the loop for longer than all the rest.
    """

    why: str
    reason: EndReason = EndReason.CANCELLED

    def error_of(self, command: CommandConfig) -> TaskCancelled:
        """Make the error of one task."""
        return TaskCancelled(f"{command.display()}: {self.why}", command=command, end_reason=self.reason)


_DoneCallback = tuple[Callable[["TaskHandle"], object], contextvars.Context]


class TaskOwner(Protocol):
    """What a handle asks of the pool that made it."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where its tasks belong."""

    def cancel_task(self, handle: "TaskHandle") -> None:
        """Withdraw a pending task, or end a running one."""


class TaskHandle:
    """A task: its id, its status, and its outcome once there is one. Await it for the result.

    Awaiting it twice, or from several places, is fine. Cancelling an await of it leaves the task alone: use `cancel`.
    An outcome that nobody asks for is dropped silently; the statistics of the pool still count it.

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
        """Unique in this process, growing."""
        self.command = command
        self.priority = priority
        self.status = TaskStatus.PENDING
        self.pushed_at = monotonic()
        self.started_at: float | None = None
        self.cancellation: TaskCancelled | None = None
        """What it will end with, once its run is being ended by `cancel`."""
        self.control: RunControl | None = None
        """A hand on its run, for `open`."""
        self._owner = owner
        self._withdrawn_at: float | None = None
        self._result: CommandResult | None = None
        self._error: BaseException | Cancellation | None = None
        self._waiters: list[asyncio.Future[None]] | None = None
        self._callbacks: list[_DoneCallback] | None = None

    @property
    def queued(self) -> float:
        """Seconds it waited in the queue, or has waited so far."""
        for left_at in (self.started_at, self._withdrawn_at):
            if left_at is not None:
                return left_at - self.pushed_at
        return monotonic() - self.pushed_at

    def done(self) -> bool:
        """Whether the task is settled."""
        return self.status.finished

    def cancelled(self) -> bool:
        """Whether the task was cancelled."""
        return self.status is TaskStatus.CANCELLED

    def cancel(self) -> bool:
        """Withdraw the task if it is pending, end its command if it runs.

        A pending task is settled at once and gives its place in the queue back; a running one is settled when its
        command is dead, with a `TaskCancelled` that carries the output so far.

        Returns:
            Whether there was anything to cancel.
        """
        if self.done():
            return False
        self._owner.cancel_task(self)
        return True

    def result(self) -> CommandResult:
        """The result, or the error, of a settled task.

        Raises:
            asyncio.InvalidStateError: It is not settled yet.
            ExecuteError: What went wrong; `TaskCancelled` if it was cancelled.
        """
        error = self.exception()
        if error is not None:
            try:
                raise error
            finally:  # no cycle of the error, its traceback and this frame: the error may hold much output
                del error, self
        assert self._result is not None
        return self._result

    def exception(self) -> BaseException | None:
        """The error of a settled task, or `None` if it has a result.

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
        """Call `callback(handle)` from the loop once the task is settled; soon, if it already is.

        Once that loop is closed, it is called by whoever settles the task.

        Args:
            callback: What it raises goes to the exception handler of the loop.
            context: What it runs in; by default a copy of the caller's, as with `asyncio.Future`.
        """
        entry = callback, context or contextvars.copy_context()
        if self.done():
            self._call_soon(*entry)
        elif self._callbacks is None:
            self._callbacks = [entry]
        else:
            self._callbacks.append(entry)

    def remove_done_callback(self, callback: "Callable[[TaskHandle], object]") -> int:
        """Take a callback back; returns how often it was registered."""
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
        """Await it on behalf of a caller to whom the task belongs.

        Cancellation: the task is cancelled, and settled before `CancelledError` leaves.
        """
        try:
            return await self
        except asyncio.CancelledError as cancellation:
            self.cancel()
            await self.wait_settled()
            raise cancellation from self.exception()  # which has the output so far
        finally:
            del self  # see `result`

    async def wait_settled(self) -> asyncio.CancelledError | None:
        """Wait until the task is settled, through cancellations; see `waiting.wait_through`."""
        return None if self.done() else await wait_through(self._waiter())

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
        if self._waiters is not None:  # its caller was cancelled; the task goes on
            self._waiters.remove(waiter)

    # -- for the pool -----------------------------------------------------------------------------------------------

    def settle(
        self,
        status: TaskStatus,
        result: CommandResult | None = None,
        error: BaseException | Cancellation | None = None,
    ) -> None:
        """Give the task its outcome. The pool does this exactly once."""
        assert not self.done(), f"{self!r} was settled twice"
        if self.started_at is None:
            self._withdrawn_at = monotonic()
        self._result, self._error = result, error
        self.status = status  # last: threads that see it settled take the outcome for granted
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits on it any more
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
        except BaseException:  # there is no loop to raise it, and others are still to be told
            _log.exception("error in a callback of %r", self)

    def __repr__(self) -> str:
        return f"<TaskHandle {self.id} {self.status.value} {self.command.display(60)!r}>"
