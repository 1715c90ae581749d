"""`PoolObserver`: receives what happens to the tasks of a pool, and passes it on to hooks, log and latencies.

It is called three times for each task, on the hot path. Features that are off cost one check: an event is made only for
hooks, and for a line that the log wants.
"""

import contextvars
import dataclasses
from collections.abc import Iterable
from time import monotonic

from aiocmdpool.commands.errors import ExecuteError
from aiocmdpool.commands.result import CommandResult, EndReason
from aiocmdpool.observability.events import (
    EventHook,
    OutputLimitReached,
    TaskEvent,
    TaskFinished,
    TaskQueued,
    TaskStarted,
)
from aiocmdpool.observability.histogram import LatencyHistogram, LatencyRecorder
from aiocmdpool.observability.hooks import Hooks
from aiocmdpool.observability.task_log import POOL_LOG, level_of, log_finished
from aiocmdpool.tasks.handle import Cancellation, TaskHandle


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PoolLatencies:
    """Distributions of the times that tasks of a pool have taken, at one moment."""

    queue: LatencyHistogram
    """Seconds from push to start, of all tasks that were started."""
    spawn: LatencyHistogram
    """Seconds in the executor besides the program's own run; see `TaskFinished.spawn`."""
    run: LatencyHistogram
    """Seconds of the program's own run. This and `spawn` cover all tasks whose program ran."""


class PoolObserver:
    """Observer of the tasks of one pool.

    An exception of a hook that is no `Exception` is raised, after everything else is done.
    """

    __slots__ = ("_contexts", "_hooks", "_queue", "_run", "_spawn", "has_hooks")

    def __init__(self, hooks: Iterable[EventHook] = ()) -> None:
        self._hooks = Hooks(hooks) or None
        self.has_hooks = self._hooks is not None
        """Whether `pushed` has to be called for each task."""
        self._contexts: dict[int, contextvars.Context] = {}  # of pushes, by the ids of unfinished tasks
        self._queue, self._spawn, self._run = LatencyRecorder(), LatencyRecorder(), LatencyRecorder()

    def latencies(self) -> PoolLatencies:
        """Return a snapshot of the latencies."""
        return PoolLatencies(queue=self._queue.snapshot(), spawn=self._spawn.snapshot(), run=self._run.snapshot())

    def pushed(self, handle: TaskHandle) -> None:
        """Record the context of a task that is being pushed in this thread."""
        self._contexts[handle.id] = contextvars.copy_context()

    def queued(self, handle: TaskHandle) -> None:
        """Send `TaskQueued` for a task that was accepted."""
        if self._hooks is not None:
            self._tell(self._hooks, handle, TaskQueued(handle.id, handle.command, handle.pushed_at, handle.priority))

    def started(self, handle: TaskHandle, now: float) -> None:
        """Record the queue time of a task that starts at the time `now`, and send `TaskStarted`."""
        self._queue.record(now - handle.pushed_at)
        if self._hooks is not None:
            self._tell(self._hooks, handle, TaskStarted(handle.id, handle.command, now, handle.pushed_at))

    def finished(
        self, handle: TaskHandle, result: CommandResult | None, error: BaseException | Cancellation | None
    ) -> None:
        """Record the latencies of a settled task, send its last events, and log its end."""
        if result is None and isinstance(error, ExecuteError):
            result = error.result
        now, started_at = monotonic(), handle.started_at
        if result is not None and started_at is not None:
            self._run.record(result.duration)
            self._spawn.record(now - started_at - result.duration)
        level = level_of(handle.status, error)
        logged = POOL_LOG.isEnabledFor(level)
        if self._hooks is None and not logged:
            return
        if isinstance(error, Cancellation):
            error = handle.exception()
        event = TaskFinished(handle.id, handle.command, now, handle.status, result, error, handle.pushed_at, started_at)
        try:
            if self._hooks is not None:
                self._tell_finished(self._hooks, handle, event)
        finally:
            self._contexts.pop(handle.id, None)
            if logged:
                log_finished(level, event)

    def _tell_finished(self, hooks: Hooks, handle: TaskHandle, event: TaskFinished) -> None:
        result = event.result
        try:
            if result is not None and (result.truncated or result.end_reason is EndReason.OUTPUT_LIMIT):
                self._tell(hooks, handle, OutputLimitReached(handle.id, handle.command, event.time, result))
        finally:
            self._tell(hooks, handle, event)

    def _tell(self, hooks: Hooks, handle: TaskHandle, event: TaskEvent) -> None:
        """Call the hooks in the context of the push, one for all events, so that one can undo what another set."""
        context = self._contexts.get(handle.id)
        if context is None:
            hooks.tell(event)
            return
        try:
            context.run(hooks.tell, event)
        except RuntimeError:  # the context is in use by a hook that has caused this event
            context.copy().run(hooks.tell, event)
