"""`SpanHook`: a span for each command, by the official API of OpenTelemetry. Needs the extra `opentelemetry`.

It is a hook and not an executor around another: a pool runs its commands in runners of its own, whose context does not
contain the pusher's span; the event `TaskQueued` is sent in the pusher's context. The span is made when the command has
ended, with its true start and end times, so that nothing is open meanwhile.

Names are those of the semantic conventions for CLI programs, caller side (in development as of this writing):
https://opentelemetry.io/docs/specs/semconv/cli/cli-spans/
"""

import os
import time
from typing import TYPE_CHECKING

try:
    from opentelemetry import context as contexts
    from opentelemetry import trace
except ImportError as error:
    raise ImportError(
        "aiocmdpool.observability.opentelemetry needs the package opentelemetry-api; "
        "install it with: pip install 'aiocmdpool[opentelemetry]'"
    ) from error

from aiocmdpool.observability.events import TaskEvent, TaskFinished, TaskQueued

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

_NOBODY = contexts.Context()  # the parent if the push was not seen; `None` would mean the current context


class SpanHook:
    """A hook that makes a span of each task: named after the program, of kind CLIENT, a child of the span of its push.

    It lasts from the start of the run to its end; for a task that never started, from its push. An exit status other
    than 0 is an error, as in the conventions, and so is every error of the task, which is recorded: `error.type` is the
    name of its class, or the exit status if there is none.

    Args:
        tracer: The tracer that makes the spans; by default that of the global provider.
        command_args: Whether to put all arguments into `process.command_args`. The conventions advise against it unless
            they are known to hold no secrets.

    Example:
        >>> async with CommandPool(hooks=[SpanHook()]) as pool:
        ...     with tracer.start_as_current_span("request"):
        ...         await pool.execute(CommandConfig("convert", ["in.png", "out.jpg"]))
    """

    def __init__(self, tracer: trace.Tracer | None = None, *, command_args: bool = False) -> None:
        self._tracer = tracer or trace.get_tracer("aiocmdpool")
        self._command_args = command_args
        self._parents: dict[int, contexts.Context] = {}

    def __call__(self, event: TaskEvent) -> None:
        """Remember the parent span of a queued task; add the span of a finished one."""
        if isinstance(event, TaskQueued):
            self._parents[event.task_id] = contexts.get_current()
        elif isinstance(event, TaskFinished):
            self._add_span(event, self._parents.pop(event.task_id, _NOBODY))

    def _add_span(self, event: TaskFinished, parent: contexts.Context) -> None:
        began = event.started_at if event.started_at is not None else event.time - event.queued
        ended_ns = time.time_ns()
        name = os.path.basename(event.command.program)
        span = self._tracer.start_span(
            name,
            parent,
            trace.SpanKind.CLIENT,
            {"process.executable.name": name},  # samplers may decide by it
            start_time=ended_ns - int((event.time - began) * 1e9),
        )
        if span.is_recording():  # spans that are not recorded cost no more than this
            span.set_attributes(self._attributes(name, event))
            _record_failure(span, event)
        span.end(ended_ns)

    def _attributes(self, name: str, event: TaskFinished) -> "dict[str, AttributeValue]":
        command, result, reason = event.command, event.result, event.end_reason
        attributes: dict[str, AttributeValue] = {
            "aiocmdpool.task.id": event.task_id,
            "aiocmdpool.task.queued": event.queued,  # seconds
        }
        if name != command.program:
            attributes["process.executable.path"] = command.program
        if self._command_args:
            attributes["process.command_args"] = command.argv
        if command.label is not None:
            attributes["aiocmdpool.task.label"] = command.label
        if result is not None:
            attributes["process.pid"] = result.pid
            attributes["process.exit.code"] = result.returncode
        if reason is not None:
            attributes["aiocmdpool.task.end_reason"] = reason.value
        return attributes


def _record_failure(span: trace.Span, event: TaskFinished) -> None:
    error, result = event.error, event.result
    if error is not None:
        kind = type(error)
        span.set_attribute("error.type", f"{kind.__module__}.{kind.__qualname__}")
        span.record_exception(error)
        span.set_status(trace.Status(trace.StatusCode.ERROR, str(error)))
    elif result is not None and result.returncode != 0:
        span.set_attribute("error.type", str(result.returncode))
        span.set_status(trace.Status(trace.StatusCode.ERROR, result.status_text()))
