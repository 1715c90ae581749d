"""The runs of a pool's tasks: taken off the queue, given a permit and to the executor, ended."""

import asyncio
import dataclasses
import math
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
    from collections.abc import Callable

_log = SafeLog("aiocmdpool.pool")

# Seconds that an executor gets to end a cancelled command, beside the graces of that. What cannot be killed ends its
# call five seconds after KILL.
OVERTIME = 6.0
BEAT = 0.5  # seconds between two looks at a cancelled run


class PoolTasks(TaskLedger):
    """Runs and cancels tasks, beside what the ledger does.

    Args:
        queue: Where accepted tasks wait.
        permits: One is held for each command that runs.
        tracker: Told every status.
        observer: Told of every task when it is accepted, started and settled.

    Attributes:
        is_ending: Says whether a cancelled runner is to end, because the pool or the loop does.
        on_lost: Called with a runner whose executor does not end what was cancelled.
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
        """A runner: takes tasks off the queue, one at a time.

        It returns when it is not to be used any more, because an executor has left it cancelled, or came back to it too
        late. It raises what an executor or a hook raises and is no `Exception`; the task has got that as its error.
        """
        runner = asyncio.current_task()
        assert runner is not None
        while not runner.cancelling():
            handle = await self._queue.get()
            if self._killing:  # what a thread has pushed just now; not too many in one turn
                self._settle(handle, TaskStatus.CANCELLED, error=Cancellation(self._killing, EndReason.CLOSED))
                await asyncio.sleep(0)
                continue
            self._active[handle] = runner
            holds_permit = False
            try:
                try:
                    await self._permits.acquire()
                except asyncio.CancelledError:
                    if self.is_ending():
                        raise
                    await self._acquire_again()
                holds_permit = True
                if not handle.done():  # cancelled or expired while it waited for the permit
                    await self._run(executor, handle, runner)
            except Exception as failure:  # permits that are somebody else's, and belong to another loop
                if not handle.done():
                    self._settle(handle, TaskStatus.FAILED, error=failure)
            finally:
                was_given_up = self._active.pop(handle, None) is None
                if holds_permit and not was_given_up:
                    self._permits.release()
                if not handle.done():  # the runner itself was cancelled there
                    self._settle(handle, TaskStatus.CANCELLED, error=self._cancelled(handle, "its pool was abandoned"))
            del handle  # it holds the result, and the next task may be long in coming
            if was_given_up:
                return

    async def _acquire_again(self) -> None:
        """Wait on for a permit: the cancellation was meant for a run that is over, not for this task."""
        while True:
            try:
                await self._permits.acquire()
                return
            except asyncio.CancelledError:
                if self.is_ending():
                    raise

    async def _run(self, executor: CommandExecutor, handle: TaskHandle, runner: "asyncio.Task[None]") -> None:
        """Own one run, whatever the executor does."""
        now = self._start(handle)
        cancelled_before = runner.cancelling()  # an executor may have left a count behind
        status, result = TaskStatus.FAILED, None
        error: BaseException | None = None
        try:
            self._observer.started(handle, now)
            result = checked_result(await execute_on(executor, handle.command, handle.control), handle.command)
            status = TaskStatus.COMPLETED
        except asyncio.CancelledError as cancellation:
            status, error = TaskStatus.CANCELLED, self._with_output(handle, cancellation)
            meant = handle.cancellation is not None
            if runner.cancelling() - cancelled_before > meant:  # not (only) this task was meant, but the runner
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

    def running(self) -> tuple[TaskHandle, ...]:
        """The tasks that run now; may be asked from any thread."""
        return tuple(handle for handle in tuple(self._active) if handle.started_at is not None)

    # -- ends that come from outside --------------------------------------------------------------------------------

    def cancel_task(self, handle: TaskHandle) -> None:
        """Cancel a task of this pool; `TaskHandle.cancel` is the public way."""
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
        """Wait so many beats for the end of a cancelled run, then give it up.

        Beats, not seconds, are counted: where the process stood still (SIGSTOP, a blocked loop), what has happened
        meanwhile is still to be heard of.
        """
        if beats:
            self._timers[handle] = self.loop.call_later(BEAT, self._watch, handle, seconds, beats - 1)
        else:
            self._give_up(handle, seconds)

    def _give_up(self, handle: TaskHandle, seconds: float) -> None:
        """Settle a task whose executor swallows its cancellation; its permit comes back, and another runner."""
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
        """Cancel what waits and what runs, because the pool is closing."""
        self._killing = why
        for handle in list(self._active):
            if not handle.done():
                self.cancel_task(handle)
        self.clear()

    def abandon(self) -> None:
        """Settle everything although nothing has ended: the loop is closed, and no run goes on."""
        self._all_settled = None  # nobody on that loop waits for it any more
        self._killing = "the loop of its pool was closed"
        self.clear()
        self._clearing.finish()
        for handle in tuple(self._active):
            if not handle.done():
                self.counters.running -= handle.status is TaskStatus.RUNNING
                self._settle(handle, TaskStatus.CANCELLED, error=self._cancelled(handle, self._killing))

    def _with_output(self, handle: TaskHandle, cancellation: asyncio.CancelledError) -> TaskCancelled:
        """The error for a run that was cancelled, with its result so far where the backend knows it."""
        error = handle.cancellation or self._cancelled(handle, "cancelled while it ran")
        cause = cancellation.__cause__
        if isinstance(cause, ExecuteError) and cause.result is not None:
            reason = error.end_reason or EndReason.CANCELLED
            error.result = dataclasses.replace(cause.result, end_reason=reason)
        return error
