"""`PoolTasks`: runs the tasks of a pool, from the queue over a permit to the executor and to the end."""

import asyncio
import dataclasses
import math
import operator
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING

from aiocmdpool.commands.errors import ExecuteError, TaskCancelled
from aiocmdpool.commands.executor import CommandExecutor, checked_result
from aiocmdpool.commands.result import EndReason
from aiocmdpool.live.controlled import execute_on
from aiocmdpool.observability.observer import PoolObserver
from aiocmdpool.pool.ledger import TaskLedger
from aiocmdpool.pool.priority_queue import PoolQueue
from aiocmdpool.system.safe_log import SafeLog
from aiocmdpool.tasks.handle import Cancellation, TaskHandle
from aiocmdpool.tasks.status import TaskStatus, TaskStatusTracker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_log = SafeLog("aiocmdpool.pool")

# Seconds that an executor has for ending a cancelled command, in addition to the command's graces. A backend gives up
# on a process that cannot be killed five seconds after SIGKILL.
OVERTIME = 6.0
AT_ONCE = 64  # running tasks, or idle runners, cancelled in one iteration of the loop
BEAT = 0.5  # seconds between two checks on a cancelled run


class PoolTasks(TaskLedger):
    """A task ledger that also runs tasks and cancels their runs.

    Args:
        queue: The queue in which accepted tasks wait.
        permits: Semaphore of which one permit is held for each command that runs.
        tracker: Records the status of every task.
        observer: Notified of every task when it is accepted, started and settled.

    Attributes:
        is_ending: Function that tells whether a cancelled runner has to end, because the pool or the loop ends.
        on_lost: Called with a runner whose executor does not end a cancelled command.
    """

    def __init__(
        self,
        queue: PoolQueue,
        permits: asyncio.Semaphore,
        tracker: TaskStatusTracker,
        observer: PoolObserver | None = None,
    ) -> None:
        super().__init__(queue, tracker, observer)
        self._permits = permits
        self.is_ending: Callable[[], bool] = lambda: True
        self.on_lost: Callable[[asyncio.Task[None]], object] = lambda _: None

    async def run_tasks(self, executor: CommandExecutor) -> None:
        """Run as a runner: take tasks off the queue and run them, one at a time.

        It returns when the runner must not be used any more, because an executor has left it cancelled, or came back
        too late. It raises what an executor or a hook raises if that is no `Exception`; the task has it as its error,
        too.
        """
        runner = asyncio.current_task()
        loop_thread = self.loop_thread
        assert runner is not None
        assert loop_thread is not None
        while not runner.cancelling():
            handle = await self._queue.get()
            loop_thread.runs_here()  # another thread may run the loop now
            if self._killing:  # pushed by a thread during the stop: one per loop iteration
                self._settle(handle, TaskStatus.CANCELLED, error=Cancellation(self._killing, EndReason.CLOSED))
                await asyncio.sleep(0)
                continue
            self._active[handle] = runner
            holds_permit = False
            try:
                try:
                    # Before Python 3.13, `uncancel` leaves this set, and the cancellation would hit this task.
                    if getattr(runner, "_must_cancel", False):
                        self.disturbances.note("a cancellation was left behind in a runner, and taken back too late")
                        await asyncio.sleep(0)
                    await self._permits.acquire()
                except asyncio.CancelledError:
                    if self.is_ending():
                        raise
                    await self._acquire_again()
                holds_permit = True
                if not handle.done():  # else cancelled or expired while it waited for the permit
                    await self._run(executor, handle, runner)
            except Exception as failure:  # such as a semaphore of the user's that belongs to another loop
                if not handle.done():
                    self._settle(handle, TaskStatus.FAILED, error=failure)
            finally:
                was_given_up = self._active.pop(handle, None) is None
                if holds_permit and not was_given_up:
                    self._permits.release()
                if not handle.done():  # the runner itself was cancelled there
                    self._settle(handle, TaskStatus.CANCELLED, error=self._cancelled(handle, "its pool was abandoned"))
            del handle  # it holds the result, and the next task may not come for long
            if was_given_up:
                return

    async def _acquire_again(self) -> None:
        """Acquire a permit despite cancellations, which were meant for a run that is over and not for this task."""
        while True:
            try:
                await self._permits.acquire()
                return
            except asyncio.CancelledError:
                if self.is_ending():
                    raise

    async def _run(self, executor: CommandExecutor, handle: TaskHandle, runner: "asyncio.Task[None]") -> None:
        """Run one task and settle it, whatever the executor does."""
        now = self._start(handle)
        cancelled_before = runner.cancelling()  # an executor may have left a cancellation count
        status, result = TaskStatus.FAILED, None
        error: BaseException | None = None
        try:
            self._observer.started(handle, now)
            result = checked_result(await execute_on(executor, handle.command, handle.control), handle.command)
            status = TaskStatus.COMPLETED
        except asyncio.CancelledError as cancellation:
            status, error = TaskStatus.CANCELLED, self._with_output(handle, cancellation)
            meant = handle.cancellation is not None
            if runner.cancelling() - cancelled_before > meant:  # not, or not only, this task was meant, but the runner
                raise
        except Exception as failure:
            error = failure
        except BaseException as failure:
            error = failure
            self.disturbances.note(f"{handle.command.display()} ended with", failure)
            raise
        finally:
            if handle.cancellation is not None:
                runner.uncancel()
            if not handle.done():  # else it was abandoned meanwhile
                self.counters.running -= 1
                self._settle(handle, status, result, error)
            del handle, error, result  # break the cycle with the error's traceback: the error may hold much output

    def _start(self, handle: TaskHandle) -> float:
        now = handle.started_at = monotonic()
        handle.status = TaskStatus.RUNNING
        self._tracker.register(handle.id, TaskStatus.RUNNING)
        self.counters.running += 1
        self._drop_timer(handle)
        return now

    def running(self) -> tuple[TaskHandle, ...]:
        """Return the handles of the tasks that run now; may be called from any thread."""
        return tuple(handle for handle in tuple(self._active) if handle.started_at is not None)

    # -- ends that come from outside --------------------------------------------------------------------------------

    def cancel_task(self, handle: TaskHandle) -> None:
        """Cancel the task of `handle`; `TaskHandle.cancel` is the public way."""
        self.check_loop(handle.command)
        if handle.done():
            return
        if handle.status is TaskStatus.PENDING:
            self._withdraw(handle, TaskStatus.CANCELLED, self._cancellation("cancelled before it started"))
        elif self._active[handle] is asyncio.current_task(self.loop):  # from inside its own run: before 3.13 the
            self.loop.call_soon(self.cancel_task, handle)  # cancellation could outlive the run and hit the next
        elif handle.cancellation is None:
            handle.cancellation = self._cancelled(handle, "cancelled while it ran")
            seconds = handle.command.grace + handle.command.leftover_grace + OVERTIME
            self._watch(handle, seconds, math.ceil(seconds / BEAT))
            self._active[handle].cancel()

    def _watch(self, handle: TaskHandle, seconds: float, beats: int) -> None:
        """Wait `beats` beats for the end of a cancelled run, then give it up.

        Beats are counted and not seconds: after the process stood still (SIGSTOP, a blocked loop), events that happened
        meanwhile are still to be processed.
        """
        if beats:
            self._timers[handle] = self.loop.call_later(BEAT, self._watch, handle, seconds, beats - 1)
        else:
            self._give_up(handle, seconds)

    def _give_up(self, handle: TaskHandle, seconds: float) -> None:
        """Settle a task whose executor ignores its cancellation; release its permit and have its runner replaced."""
        runner, error = self._active.pop(handle), handle.cancellation
        why = f"{error}, but its executor goes on {seconds:g} s later and is left to itself"
        self.disturbances.note(why)
        self.counters.running -= 1
        reason = error.end_reason if error is not None else None
        given_up = TaskCancelled(why, command=handle.command, end_reason=reason)
        self._settle(handle, TaskStatus.CANCELLED, error=given_up)
        self._permits.release()
        self.on_lost(runner)
        runner.cancel()
        _log.warning("%s", why)

    def cancel_all(self, why: str = "the pool was stopped") -> None:
        """Cancel all queued and running tasks, with `why` as the reason in their errors."""
        self._killing = why
        self._cancel_active(iter(tuple(self._active)))
        self.clear()

    def _cancel_active(self, handles: "Iterator[TaskHandle]") -> None:
        """Cancel running tasks, a limited number in each iteration of the loop: their ends need much more of it."""
        for handle in islice((each for each in handles if each in self._active and not each.done()), AT_ONCE):
            self.cancel_task(handle)
        if operator.length_hint(handles):
            self.loop.call_soon(self._cancel_active, handles)

    def abandon(self) -> None:
        """Settle all tasks without waiting for their runs, because the loop is closed and no run goes on."""
        self._all_settled = None  # its waiter was on the closed loop
        self._killing = "the loop of its pool was closed"
        self.clear()
        self._clearing.finish()
        for handle in tuple(self._active):
            if not handle.done():
                self.counters.running -= handle.status is TaskStatus.RUNNING
                self._settle(handle, TaskStatus.CANCELLED, error=self._cancelled(handle, self._killing))

    def _with_output(self, handle: TaskHandle, cancellation: asyncio.CancelledError) -> TaskCancelled:
        """Return the error for a run that was cancelled, with its result so far where the backend knows it."""
        error = handle.cancellation or self._cancelled(handle, "cancelled while it ran")
        cause = cancellation.__cause__
        if isinstance(cause, ExecuteError) and cause.result is not None:
            reason = error.end_reason or EndReason.CANCELLED
            error.result = dataclasses.replace(cause.result, end_reason=reason)
        return error
