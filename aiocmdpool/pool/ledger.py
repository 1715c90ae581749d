"""The tasks of a pool as its callers see them: accepted, counted, withdrawn, settled.

Executors, hooks and logs are other people's. Whatever they raise, each task gets its one outcome, and is counted; only
then is anybody told, and only after that does what is no `Exception` go on, to where it can end the program.
"""

import abc
import asyncio
from time import monotonic, time
from typing import TYPE_CHECKING

from aiocmdpool.commands.command import CommandConfig, CommandOptions
from aiocmdpool.commands.errors import CommandTimeout, ExecuteError, TaskCancelled
from aiocmdpool.commands.result import CommandResult, EndReason
from aiocmdpool.observability.observer import PoolObserver
from aiocmdpool.pool.clearing import Clearing
from aiocmdpool.pool.disturbances import Disturbances
from aiocmdpool.pool.priority_queue import PoolQueue
from aiocmdpool.pool.statistics import PoolCounters
from aiocmdpool.system.safe_log import SafeLog
from aiocmdpool.tasks.handle import Cancellation, TaskHandle
from aiocmdpool.tasks.status import TaskStatus, TaskStatusTracker
from aiocmdpool.tasks.thread_handle import running_loop

if TYPE_CHECKING:
    from collections.abc import Callable

_log = SafeLog("aiocmdpool.pool")


class TaskLedger(abc.ABC):
    """Accepts, withdraws and settles tasks; every task is settled exactly once. What is to run them derives from it.

    Args:
        queue: Where accepted tasks wait.
        tracker: Told every status.
        observer: Told of every task when it is accepted, started and settled.
    """

    def __init__(self, queue: PoolQueue, tracker: TaskStatusTracker, observer: PoolObserver | None) -> None:
        self._queue = queue
        self._tracker = tracker
        self._observer = observer or PoolObserver()
        self._active: dict[TaskHandle, asyncio.Task[None]] = {}  # off the queue: waiting for a permit, or running
        self._timers: dict[TaskHandle, asyncio.TimerHandle] = {}  # queue deadlines; then, the patience with executors
        self._clearing = Clearing(self._cancel_cleared)
        self._killing = ""  # why, once everything is being ended
        self._all_settled: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.counters = PoolCounters(queue.unheard)
        self.disturbances = Disturbances()
        self.defaults: CommandOptions | None = None
        """Options of every command; `None` if there are none."""
        self.make_handle: Callable[[CommandConfig, int], TaskHandle] | None = None
        """Makes the handles, if they are not to be those of the loop alone."""

    # -- the loop ---------------------------------------------------------------------------------------------------

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where they belong."""
        assert self._loop is not None
        return self._loop

    def belong_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note where they belong, before the first of them is accepted or run."""
        self._loop = loop

    def check_loop(self, command: CommandConfig | None = None) -> None:
        """Refuse what must not be done beside the loop of the pool, on another one.

        Raises:
            ExecuteError: Another loop runs here.
        """
        here = running_loop()
        if here is not self._loop and here is not None and self._loop is not None and not self._loop.is_closed():
            raise ExecuteError("this pool belongs to another event loop; do that there", command=command)

    # -- accepted ---------------------------------------------------------------------------------------------------

    def accept(self, command: CommandConfig, priority: int, queue_timeout: float | None) -> TaskHandle:
        """Make the task for a place in the queue that the caller has taken. No await: it cannot be left half done."""
        if self.defaults is not None:
            command = command.with_defaults(self.defaults)
        make = self.make_handle
        handle = TaskHandle(command, self, priority) if make is None else make(command, priority)
        if self._observer.has_hooks:
            self._observer.pushed(handle)
        if queue_timeout is not None:
            # An idle runner needs a turn of the loop to take the task, even where it may not wait at all.
            self._timers[handle] = self.loop.call_later(max(queue_timeout, 0.001), self._expire, handle, queue_timeout)
        self._queue.put(handle)
        self._count_in(handle)
        try:
            self._observer.queued(handle)
        except BaseException as failure:
            self.disturbances.note("a hook raised", failure)
            if not handle.done():
                self._withdraw(handle, TaskStatus.FAILED, failure)
            if isinstance(failure, KeyboardInterrupt | SystemExit):
                raise
        return handle

    def adopt(self, handle: TaskHandle) -> None:
        """Count a task among those of the pool, and tell of it, as it leaves the queue."""
        self._count_in(handle)
        try:
            self._observer.queued(handle)
        except BaseException as failure:
            self.disturbances.note("a hook raised", failure)
            if isinstance(failure, KeyboardInterrupt | SystemExit):
                self._pass_on(failure)  # first: then those who wait for the task are not woken before the loop ends
            if not handle.done():
                self._settle(handle, TaskStatus.FAILED, error=failure)

    def _count_in(self, handle: TaskHandle) -> None:
        self.counters.submitted += 1
        self._tracker.register(handle.id)

    # -- withdrawn --------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def cancel_task(self, handle: TaskHandle) -> None:
        """Cancel a task of this pool; `TaskHandle.cancel` is the public way."""

    def clear(self) -> int:
        """Cancel everything in the queue, a slice in each turn of the loop; returns how many tasks that are."""
        self.check_loop()
        cleared, handles = self._queue.take_all()
        self._clearing.add(handles, self._cancellation("cleared from the queue"))
        return cleared

    def _cancel_cleared(self, handle: TaskHandle, cancellation: Cancellation) -> None:
        self._settle(handle, TaskStatus.CANCELLED, error=cancellation)

    def take(self) -> CommandConfig | None:
        """Take the next command off the queue; its task ends as cancelled."""
        self.check_loop()
        handle = self._queue.get_nowait()
        if handle is None:
            return None
        cancellation = self._cancellation("taken off the queue by pop_task()")
        self._settle(handle, TaskStatus.CANCELLED, error=cancellation)
        return handle.command

    def _expire(self, handle: TaskHandle, queue_timeout: float) -> None:
        """The queue deadline of a task has passed."""
        message = (
            f"{handle.command.display()}: waited in the queue longer than its queue_timeout of {queue_timeout:g} s"
        )
        error = CommandTimeout(message, command=handle.command, end_reason=EndReason.QUEUE_TIMEOUT)
        self._withdraw(handle, TaskStatus.FAILED, error)

    def _withdraw(self, handle: TaskHandle, status: TaskStatus, error: BaseException | Cancellation) -> None:
        if handle not in self._active:
            self._queue.withdrawn(handle)
        if not handle.done():  # else a hook that was told of it first has ended it
            self._settle(handle, status, error=error)

    def _cancellation(self, why: str) -> Cancellation:
        return Cancellation(self._killing, EndReason.CLOSED) if self._killing else Cancellation(why)

    def _cancelled(self, handle: TaskHandle, why: str) -> TaskCancelled:
        return self._cancellation(why).error_of(handle.command)

    # -- settled ----------------------------------------------------------------------------------------------------

    def _settle(
        self,
        handle: TaskHandle,
        status: TaskStatus,
        result: CommandResult | None = None,
        error: BaseException | Cancellation | None = None,
    ) -> None:
        """Give a task its one and only outcome, and count it. Raises nothing."""
        self._drop_timer(handle)
        if result is not None:
            result = result.with_queued(handle.queued, handle.id)
        elif isinstance(error, ExecuteError):
            _name_task(error, handle)
        self.counters.settled(status, error)
        self._tracker.register(handle.id, status)
        handle.settle(status, result, error)
        if self._all_settled is not None and not self.counters.unsettled and not self._all_settled.done():
            self._all_settled.set_result(None)
        try:
            self._observer.finished(handle, result, error)
        except BaseException as failure:  # others may still have to be settled
            self.disturbances.note("a hook raised", failure)
            self._pass_on(failure)

    def _drop_timer(self, handle: TaskHandle) -> None:
        if self._timers and (timer := self._timers.pop(handle, None)):
            timer.cancel()

    def settled(self) -> "asyncio.Future[None]":
        """A future for the moment when no task is unsettled; asked for once, when no more are accepted."""
        self._all_settled = asyncio.get_running_loop().create_future()
        if not self.counters.unsettled:
            self._all_settled.set_result(None)
        return self._all_settled

    def _pass_on(self, failure: BaseException) -> None:
        """Have the loop raise what a hook has raised, or tell its exception handler."""
        loop = running_loop()
        if loop is None:
            _log.warning("a hook raised %r while no loop ran", failure, exc_info=failure)
        else:
            loop.call_soon(_raise, failure)


def _name_task(error: ExecuteError, handle: TaskHandle) -> None:
    """Tell an error, and its result, of which task it is the end."""
    error.task_id = handle.id
    if error.result is not None:
        error.result = error.result.with_queued(handle.queued, handle.id)
        error.started_at = error.result.started_at
    if error.started_at is None and handle.started_at is not None:
        error.started_at = time() - (monotonic() - handle.started_at)


def _raise(failure: BaseException) -> None:
    raise failure
