"""`TaskLedger`: the tasks of a pool as they are accepted, counted, withdrawn and settled.

Executors, hooks and logs are code of users. Whatever they raise, each task is settled exactly once and counted; only
then are its waiters notified, and only after that is an exception that is no `Exception` passed on, to where it can end
the program.
"""

import abc
import asyncio
from time import monotonic, time
from typing import TYPE_CHECKING

from aiocmdpool.commands.command import CommandConfig, CommandOptions
from aiocmdpool.commands.errors import CommandTimeout, ExecuteError, TaskCancelled
from aiocmdpool.commands.result import CommandResult, EndReason
from aiocmdpool.loops.loop_thread import LoopThread
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
    """Base class that accepts, withdraws and settles tasks, each exactly once; a subclass runs them.

    Args:
        queue: The queue in which accepted tasks wait.
        tracker: Records the status of every task.
        observer: Notified of every task when it is accepted, started and settled.
    """

    def __init__(self, queue: PoolQueue, tracker: TaskStatusTracker, observer: PoolObserver | None) -> None:
        self._queue = queue
        self._tracker = tracker
        self._observer = observer or PoolObserver()
        self._active: dict[TaskHandle, asyncio.Task[None]] = {}  # off the queue: waiting for a permit, or running
        self._timers: dict[TaskHandle, asyncio.TimerHandle] = {}  # queue deadlines; then, watches on cancelled runs
        self._clearing = Clearing(self._cancel_cleared)
        self._killing = ""  # the reason, once all tasks are being cancelled
        self._all_settled: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.loop_thread: LoopThread | None = None
        """The thread that runs the loop; `None` until there is one."""
        self.counters = PoolCounters(queue.uncounted)
        self.disturbances = Disturbances()
        self.defaults: CommandOptions | None = None
        """Options that every command gets if it does not set them; `None` if there are none."""
        self.make_handle: Callable[[CommandConfig, int], TaskHandle] | None = None
        """Function that makes the handles, if they are not to be plain `TaskHandle`s of the loop."""

    # -- the loop ---------------------------------------------------------------------------------------------------

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop that the tasks belong to."""
        assert self._loop is not None
        return self._loop

    def belong_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set the event loop that the tasks belong to, before the first of them is accepted or run."""
        self._loop = loop
        self.loop_thread = LoopThread(loop)

    def check_loop(self, command: CommandConfig | None = None) -> None:
        """Raise `ExecuteError` if another event loop than that of the pool runs in this thread.

        Raises:
            ExecuteError: Another loop runs in this thread.
        """
        here = running_loop()
        if here is not self._loop and here is not None and self._loop is not None and not self._loop.is_closed():
            raise ExecuteError("this pool belongs to another event loop; do that there", command=command)

    # -- accepted ---------------------------------------------------------------------------------------------------

    def accept(self, command: CommandConfig, priority: int, queue_timeout: float | None) -> TaskHandle:
        """Make the task for a place that the caller has taken in the queue. No await: it is never half done."""
        if self.defaults is not None:
            command = command.with_defaults(self.defaults)
        make = self.make_handle
        handle = TaskHandle(command, self, priority) if make is None else make(command, priority)
        if self._observer.has_hooks:
            self._observer.pushed(handle)
        if queue_timeout is not None:
            # An idle runner needs one iteration of the loop to take the task, even if it may not wait at all.
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

    def first_seen(self, handle: TaskHandle) -> None:
        """Count a task that leaves a queue which threads fill, and notify the observer of it."""
        self._count_in(handle)
        try:
            self._observer.queued(handle)
        except BaseException as failure:
            self.disturbances.note("a hook raised", failure)
            if isinstance(failure, KeyboardInterrupt | SystemExit):
                self._pass_on(failure)  # first, so that waiters of the task are not woken before the loop ends
            if not handle.done():
                self._settle(handle, TaskStatus.FAILED, error=failure)

    def _count_in(self, handle: TaskHandle) -> None:
        self.counters.submitted += 1
        self._tracker.register(handle.id)

    # -- withdrawn --------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def cancel_task(self, handle: TaskHandle) -> None:
        """Cancel the task of `handle`; `TaskHandle.cancel` is the public way."""

    def clear(self) -> int:
        """Cancel every task in the queue, in slices over iterations of the loop; return how many there are."""
        self.check_loop()
        cleared, handles = self._queue.take_all()
        self._clearing.add(handles, self._cancellation("cleared from the queue"))
        return cleared

    def _cancel_cleared(self, handle: TaskHandle, cancellation: Cancellation) -> None:
        self._settle(handle, TaskStatus.CANCELLED, error=cancellation)

    def take(self) -> CommandConfig | None:
        """Take the next command off the queue and return it, or `None`; its task ends as cancelled."""
        self.check_loop()
        handle = self._queue.get_nowait()
        if handle is None:
            return None
        cancellation = self._cancellation("taken off the queue by pop_task()")
        self._settle(handle, TaskStatus.CANCELLED, error=cancellation)
        return handle.command

    def _expire(self, handle: TaskHandle, queue_timeout: float) -> None:
        """Fail a task whose queue deadline has passed."""
        message = (
            f"{handle.command.display()}: waited in the queue longer than its queue_timeout of {queue_timeout:g} s"
        )
        error = CommandTimeout(message, command=handle.command, end_reason=EndReason.QUEUE_TIMEOUT)
        self._withdraw(handle, TaskStatus.FAILED, error)

    def _withdraw(self, handle: TaskHandle, status: TaskStatus, error: BaseException | Cancellation) -> None:
        if handle not in self._active:
            self._queue.withdrawn(handle)
        if not handle.done():  # else a hook that was notified of it first has ended it
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
        """Set the one and only outcome of a task, and count it. Raises nothing."""
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
        except BaseException as failure:  # other tasks may still have to be settled
            self.disturbances.note("a hook raised", failure)
            self._pass_on(failure)

    def _drop_timer(self, handle: TaskHandle) -> None:
        if self._timers and (timer := self._timers.pop(handle, None)):
            timer.cancel()

    def settled(self) -> "asyncio.Future[None]":
        """Return a future that resolves when no task is unsettled; called once, when no more are accepted."""
        self._all_settled = asyncio.get_running_loop().create_future()
        if not self.counters.unsettled:
            self._all_settled.set_result(None)
        return self._all_settled

    def _pass_on(self, failure: BaseException) -> None:
        """Schedule the exception of a hook to be raised by the loop; log it if no loop runs."""
        loop = running_loop()
        if loop is None:
            _log.warning("a hook raised %r while no loop ran", failure, exc_info=failure)
        else:
            loop.call_soon(_raise, failure)


def _name_task(error: ExecuteError, handle: TaskHandle) -> None:
    """Set the task id, and the times of the task, on `error` and its result."""
    error.task_id = handle.id
    if error.result is not None:
        error.result = error.result.with_queued(handle.queued, handle.id)
        error.started_at = error.result.started_at
    if error.started_at is None and handle.started_at is not None:
        error.started_at = time() - (monotonic() - handle.started_at)


def _raise(failure: BaseException) -> None:
    raise failure
