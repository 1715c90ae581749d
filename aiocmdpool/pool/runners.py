"""The tasks of a pool, each from accepted to settled. `CommandPool` is the door; this alone writes their state."""

import asyncio
import dataclasses
from time import monotonic, time
from typing import TYPE_CHECKING

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import CommandTimeout, ExecuteError, TaskCancelled
from aiocmdpool.commands.executor import CommandExecutor, checked_result
from aiocmdpool.commands.result import CommandResult, EndReason
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.observability.observer import PoolObserver
from aiocmdpool.pool.priority_queue import PoolQueue
from aiocmdpool.pool.statistics import PoolCounters
from aiocmdpool.tasks.handle import TaskHandle
from aiocmdpool.tasks.status import TaskStatus, TaskStatusTracker

if TYPE_CHECKING:
    from aiocmdpool.live.owned_run import ControlledExecutor


class PoolTasks:
    """Accepts, runs, cancels and settles tasks; every task is settled exactly once.

    Args:
        queue: Where accepted tasks wait.
        permits: One is held for each command that runs.
        tracker: Told every status.
        observer: Told of every task when it is accepted, started and settled; it never raises.
    """

    def __init__(
        self,
        queue: PoolQueue,
        permits: asyncio.Semaphore,
        tracker: TaskStatusTracker,
        observer: PoolObserver | None = None,
    ) -> None:
        self._queue = queue
        self._permits = permits
        self._tracker = tracker
        self._observer = observer or PoolObserver()
        self._active: dict[TaskHandle, asyncio.Task[None]] = {}  # off the queue: waiting for a permit, or running
        self._timers: dict[TaskHandle, asyncio.TimerHandle] = {}  # queue deadlines
        self._killing = ""  # why, once everything is being ended
        self._all_settled: asyncio.Future[None] | None = None
        self.counters = PoolCounters(queue.unheard)
        self.loop: asyncio.AbstractEventLoop

    def accept(self, command: CommandConfig, priority: int, queue_timeout: float | None) -> TaskHandle:
        """Make the task for a place in the queue that the caller has taken. No await: it cannot be left half done."""
        loop = self.loop = asyncio.get_running_loop()
        handle = TaskHandle(command, self, priority)
        if queue_timeout is not None:
            # An idle runner needs a turn of the loop to take the task, even where it may not wait at all.
            self._timers[handle] = loop.call_later(max(queue_timeout, 0.001), self._expire, handle, queue_timeout)
        self._queue.put(handle)
        self.adopt(handle)
        return handle

    def adopt(self, handle: TaskHandle) -> None:
        """Count a task among those of the pool, and tell of it."""
        self.counters.submitted += 1
        self._tracker.register(handle.id)
        self._observer.queued(handle)

    async def run_tasks(self, executor: CommandExecutor) -> None:
        """A runner: takes tasks off the queue, one at a time, until it is cancelled."""
        runner = asyncio.current_task()
        assert runner is not None
        while True:
            handle = await self._queue.get()
            self._active[handle] = runner
            try:
                async with self._permits:
                    if not handle.done():  # cancelled or expired while it waited for the permit
                        await self._run(executor, handle, runner)
            except Exception as failure:  # permits that are somebody else's, and belong to another loop
                if not handle.done():
                    self._settle(handle, TaskStatus.FAILED, error=failure)
            finally:
                del self._active[handle]
                if not handle.done():  # the runner itself was cancelled there
                    self._settle(handle, TaskStatus.CANCELLED, error=self._cancelled(handle, "its pool was abandoned"))
            del handle  # it holds the result, and the next task may be long in coming

    async def _run(self, executor: CommandExecutor, handle: TaskHandle, runner: "asyncio.Task[None]") -> None:
        """Own one run, whatever the executor does."""
        now = self._start(handle)
        cancelled_before = runner.cancelling()  # an executor may have left a count behind
        status, result = TaskStatus.FAILED, None
        error: BaseException | None = None
        try:
            self._observer.started(handle, now)
            result = checked_result(await _execute(executor, handle.command, handle.control), handle.command)
            status = TaskStatus.COMPLETED
        except asyncio.CancelledError as cancellation:
            status, error = TaskStatus.CANCELLED, self._cancellation(handle, cancellation)
            meant = handle.cancellation is not None
            if runner.cancelling() - cancelled_before > meant:  # not (only) this task was meant, but the runner
                raise
        except Exception as failure:
            error = failure
        except BaseException as failure:  # KeyboardInterrupt, SystemExit: the task is settled, the loop ends
            error = failure
            raise
        finally:
            if handle.cancellation is not None:
                runner.uncancel()
            if not handle.done():  # it was not abandoned
                self.counters.running -= 1
                self._settle(handle, status, result, error)
            del handle, error, result  # the error's traceback refers to this frame, and the error may hold much output

    def _start(self, handle: TaskHandle) -> float:
        now = handle.started_at = monotonic()
        handle.status = TaskStatus.RUNNING
        self._tracker.register(handle.id, TaskStatus.RUNNING)
        self.counters.running += 1
        self._drop_timer(handle)
        return now

    def _settle(
        self,
        handle: TaskHandle,
        status: TaskStatus,
        result: CommandResult | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Give a task its one and only outcome, and count it."""
        self._drop_timer(handle)
        queued = handle.queued
        if result is not None:
            result = result.with_queued(queued, handle.id)
        elif isinstance(error, ExecuteError):
            _name_task(error, handle)
        self.counters.settled(status, error)
        self._tracker.register(handle.id, status)
        handle.settle(status, result, error)
        if self._all_settled is not None and not self.counters.unsettled and not self._all_settled.done():
            self._all_settled.set_result(None)
        self._observer.finished(handle, result, error)

    def running(self) -> tuple[TaskHandle, ...]:
        """The tasks that run now; may be asked from any thread."""
        return tuple(handle for handle in tuple(self._active) if handle.started_at is not None)

    def _drop_timer(self, handle: TaskHandle) -> None:
        if self._timers and (timer := self._timers.pop(handle, None)):
            timer.cancel()

    # -- ends that come from outside --------------------------------------------------------------------------------

    def cancel_task(self, handle: TaskHandle) -> None:
        """Cancel a task of this pool; `TaskHandle.cancel` is the public way."""
        if handle.done():
            return
        if handle.status is TaskStatus.PENDING:
            self._withdraw(handle, TaskStatus.CANCELLED, self._cancelled(handle, "cancelled before it started"))
        elif self._active[handle] is asyncio.current_task():  # from inside its own run: before 3.13 the cancellation
            asyncio.get_running_loop().call_soon(self.cancel_task, handle)  # could outlive the run and hit the next
        elif handle.cancellation is None:
            handle.cancellation = self._cancelled(handle, "cancelled while it ran")
            self._active[handle].cancel()

    def _expire(self, handle: TaskHandle, queue_timeout: float) -> None:
        """The queue deadline of a task has passed."""
        message = (
            f"{handle.command.display()}: waited in the queue longer than its queue_timeout of {queue_timeout:g} s"
        )
        error = CommandTimeout(message, command=handle.command, end_reason=EndReason.QUEUE_TIMEOUT)
        self._withdraw(handle, TaskStatus.FAILED, error)

    def _withdraw(self, handle: TaskHandle, status: TaskStatus, error: ExecuteError) -> None:
        if handle not in self._active:
            self._queue.withdrawn(handle)
        self._settle(handle, status, error=error)

    def clear(self) -> int:
        """Cancel everything in the queue; returns how many tasks that were."""
        cleared = 0
        while (handle := self._queue.get_nowait()) is not None:
            self._settle(handle, TaskStatus.CANCELLED, error=self._cancelled(handle, "cleared from the queue"))
            cleared += 1
        return cleared

    def take(self) -> CommandConfig | None:
        """Take the next command off the queue; its task ends as cancelled."""
        handle = self._queue.get_nowait()
        if handle is None:
            return None
        self._settle(handle, TaskStatus.CANCELLED, error=self._cancelled(handle, "taken off the queue by pop_task()"))
        return handle.command

    def cancel_all(self) -> None:
        """Cancel what waits and what runs, because the pool is closing."""
        self._killing = "the pool was stopped"
        self.clear()
        for handle in list(self._active):
            if not handle.done():
                self.cancel_task(handle)

    def abandon(self) -> None:
        """Settle everything although nothing has ended: the loop is closed, and no run goes on."""
        self._all_settled = None  # nobody on that loop waits for it any more
        self._killing = "the loop of its pool was closed"
        self.clear()
        for handle in tuple(self._active):
            if not handle.done():
                self.counters.running -= handle.status is TaskStatus.RUNNING
                self._settle(handle, TaskStatus.CANCELLED, error=self._cancelled(handle, self._killing))

    def settled(self) -> "asyncio.Future[None]":
        """A future for the moment when no task is unsettled; asked for once, when no more are accepted."""
        self._all_settled = asyncio.get_running_loop().create_future()
        if not self.counters.unsettled:
            self._all_settled.set_result(None)
        return self._all_settled

    def _cancellation(self, handle: TaskHandle, cancellation: asyncio.CancelledError) -> TaskCancelled:
        """The error for a run that was cancelled, with its result so far where the backend knows it."""
        error = handle.cancellation or self._cancelled(handle, "cancelled while it ran")
        cause = cancellation.__cause__
        if isinstance(cause, ExecuteError) and cause.result is not None:
            reason = error.end_reason or EndReason.CANCELLED
            error.result = dataclasses.replace(cause.result, end_reason=reason)
        return error

    def _cancelled(self, handle: TaskHandle, why: str) -> TaskCancelled:
        reason = EndReason.CANCELLED
        if self._killing:
            reason, why = EndReason.CLOSED, self._killing
        return TaskCancelled(f"{handle.command.display()}: {why}", command=handle.command, end_reason=reason)


def _name_task(error: ExecuteError, handle: TaskHandle) -> None:
    """Tell an error, and its result, of which task it is the end."""
    error.task_id = handle.id
    if error.result is not None:
        error.result = error.result.with_queued(handle.queued, handle.id)
        error.started_at = error.result.started_at
    if error.started_at is None and handle.started_at is not None:
        error.started_at = time() - (monotonic() - handle.started_at)


async def _execute(executor: CommandExecutor, command: CommandConfig, control: RunControl | None) -> object:
    if control is None:
        return await executor.execute(command)
    controlled: ControlledExecutor = executor  # type: ignore[assignment]  # what has an `open` is one
    return await controlled.execute(command, control=control)
