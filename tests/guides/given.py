"""What the blocks of guides and docstrings use and do not define, because a reader has it already.

Add a name here if several documents use it. What one block alone needs stands beside it in the guide, in a comment:

    <!-- invisible-code: python
    urls = ["http://a.example/", "http://b.example/"]
    -->
"""

import contextlib
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from typing import Any

from opentelemetry import trace
from prometheus_client import CollectorRegistry, generate_latest
from starlette.responses import PlainTextResponse

from aiocmdpool import CommandConfig, CommandPool, ExecutionConfig, ProcessPoolBackend
from aiocmdpool.observability.opentelemetry import SpanHook
from aiocmdpool.observability.prometheus import PoolCollector
from aiocmdpool.policies import by_host


@contextlib.asynccontextmanager
async def backend() -> AsyncIterator[ProcessPoolBackend]:
    """Give a backend that has been entered, with one worker."""
    async with ProcessPoolBackend(workers=1) as backend:
        yield backend


@contextlib.asynccontextmanager
async def pool() -> AsyncIterator[CommandPool]:
    """Give a pool that has been started, with one worker."""
    async with CommandPool(ExecutionConfig(workers=1)) as pool:
        yield pool


def serve(pool: Any) -> None:
    """Push a command from a thread and wait for its result."""
    assert pool.push_task(CommandConfig("true")).result(timeout=60).returncode == 0


# Entered before the first block that uses the name, and left at the end of the document.
CONTEXTS: dict[str, Callable[[], contextlib.AbstractAsyncContextManager[Any]]] = {"backend": backend, "pool": pool}

VALUES: dict[str, Any] = {
    "CollectorRegistry": CollectorRegistry,
    "PIPE": PIPE,
    "PlainTextResponse": PlainTextResponse,
    "PoolCollector": PoolCollector,
    "SpanHook": SpanHook,
    "by_host": by_host,
    "commands": [CommandConfig("echo", [str(number)]) for number in range(3)],
    "generate_latest": generate_latest,
    "main": lambda: None,
    "repo": ".",
    "serve": serve,
    "tracer": trace.get_tracer("guide"),
    "url": "http://example.org/",
    "urls": ["http://example.org/a", "http://example.com/b"],
}
