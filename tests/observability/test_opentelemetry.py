"""Spans, as the exporter of the official SDK gets them."""

import asyncio

import pytest
from contract.support import sh
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from aiocmdpool import CommandConfig
from aiocmdpool.observability.opentelemetry import SpanHook

from .support import Recorder, hold, settled

pytestmark = pytest.mark.slow


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider.get_tracer("tests")
    provider.shutdown()


async def test_a_success(running_pool, tracer, exporter):
    seen = Recorder()
    pool = await running_pool(seen, SpanHook(tracer))
    handle = await pool.push_task(CommandConfig("/bin/echo", ["hello"], label="a greeting"))
    result = await handle
    [span] = exporter.get_finished_spans()
    assert (span.name, span.kind, span.status.status_code) == ("echo", SpanKind.CLIENT, StatusCode.UNSET)
    assert dict(span.attributes) == {
        "process.executable.name": "echo",
        "process.executable.path": "/bin/echo",
        "process.exit.code": 0,
        "process.pid": result.pid,
        "aiocmdpool.task.id": handle.id,
        "aiocmdpool.task.queued": result.queued,
        "aiocmdpool.task.label": "a greeting",
        "aiocmdpool.task.end_reason": "exited",
    }
    finished = seen.finished(handle)
    assert (span.end_time - span.start_time) / 1e9 == pytest.approx(finished.time - finished.started_at, abs=1e-6)
    assert span.events == ()
    assert span.parent is None


async def test_its_parent_is_the_span_of_the_pusher(running_pool, tracer, exporter):
    """Not that of whoever started the pool, nor whatever is current when the command ends."""
    with tracer.start_as_current_span("start of the pool"):
        pool = await running_pool(SpanHook(tracer), limit=2)

    async def request(name):
        with tracer.start_as_current_span(name):
            return await pool.execute(sh("exit 0", label=name))

    await asyncio.gather(*(request(f"request {number}") for number in range(4)))
    spans = exporter.get_finished_spans()
    requests = {span.name: span.context for span in spans if span.name.startswith("request")}
    children = [span for span in spans if span.name == "sh"]
    assert len(children) == len(requests) == 4
    for span in children:
        assert span.parent.span_id == requests[span.attributes["aiocmdpool.task.label"]].span_id
        assert span.context.trace_id == span.parent.trace_id


@pytest.mark.parametrize(
    ("command", "kind", "exit_code"),
    [
        (sh("exit 3"), "3", 3),
        (sh("exit 3", check=True), "aiocmdpool.NonZeroExit", 3),
        (sh("exec sleep 60", timeout=0.05), "aiocmdpool.CommandTimeout", -15),
        (sh("exec yes", max_output=100), "aiocmdpool.OutputLimitExceeded", -15),
        (CommandConfig("no-such-program-here"), "aiocmdpool.IoError", None),
    ],
    ids=["not checked", "checked", "timeout", "output limit", "not found"],
)
async def test_failures(running_pool, tracer, exporter, command, kind, exit_code):
    pool = await running_pool(SpanHook(tracer))
    handle = await pool.push_task(command)
    await settled(handle)
    [span] = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == kind
    assert span.attributes.get("process.exit.code") == exit_code
    error = handle.exception()
    if error is None:
        assert (span.status.description, span.events) == ("exit status 3", ())
    else:
        assert span.status.description == str(error)
        [event] = span.events
        assert (event.name, event.attributes["exception.message"]) == ("exception", str(error))


async def test_a_task_that_never_started(running_pool, tracer, exporter, ready, release):
    seen = Recorder()
    pool = await running_pool(SpanHook(tracer), seen)
    running, waiting = await pool.push_tasks([hold(ready, release), sh("exit 0", label="waiting")])
    await ready.wait()
    waiting.cancel()
    [span] = exporter.get_finished_spans()
    assert span.attributes["error.type"] == "aiocmdpool.TaskCancelled"
    assert span.attributes["aiocmdpool.task.end_reason"] == "cancelled"
    assert "process.pid" not in span.attributes
    assert (span.end_time - span.start_time) / 1e9 == pytest.approx(seen.finished(waiting).queued, abs=1e-6)
    release.send()
    await running


async def test_arguments_only_where_they_are_asked_for(running_pool, tracer, exporter):
    pool = await running_pool(SpanHook(tracer, command_args=True))
    await pool.execute(CommandConfig("echo", ["a secret"]))
    [span] = exporter.get_finished_spans()
    assert span.attributes["process.command_args"] == ("echo", "a secret")


async def test_secrets_are_in_no_span(running_pool, tracer, exporter):
    pool = await running_pool(SpanHook(tracer))
    command = sh("exit 3", check=True, stdin=b"hunter-two", env={"TOKEN": "hunter-two"})
    await settled(await pool.push_task(command))
    [span] = exporter.get_finished_spans()
    assert "hunter" not in span.to_json()


async def test_nothing_is_kept_of_tasks_that_have_ended(running_pool, tracer):
    hook = SpanHook(tracer)
    pool = await running_pool(hook)
    handles = await pool.push_tasks(sh("exit 0") for _ in range(5))
    handles[-1].cancel()
    await settled(*handles)
    assert hook._parents == {}


async def test_spans_that_are_not_sampled(running_pool, exporter):
    provider = TracerProvider(sampler=ALWAYS_OFF)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    pool = await running_pool(SpanHook(provider.get_tracer("tests")))
    assert (await pool.execute(sh("exit 3"))).returncode == 3
    assert exporter.get_finished_spans() == ()
    provider.shutdown()


async def test_without_an_sdk_it_does_nothing(running_pool, caplog):
    pool = await running_pool(SpanHook())
    assert (await pool.execute(sh("exit 3"))).returncode == 3
    assert caplog.records == []
