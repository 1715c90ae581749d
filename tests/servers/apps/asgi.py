"""A Starlette application: `servers.apps.asgi:app`."""

import contextlib
import os

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

import aiocmdpool
from aiocmdpool import CommandConfig, CommandPool, ExecutionConfig, sync

HANG = ["-c", 'echo $$ >"$1"; exec sleep 60', "sh", os.environ.get("READY", "/dev/null")]


@contextlib.asynccontextmanager
async def lifespan(app):
    """One pool for each server process."""
    async with CommandPool(ExecutionConfig(concurrency_limit=8, workers=1)) as app.state.pool:
        yield


async def from_pool(request):
    result = await request.app.state.pool.execute(CommandConfig("echo", ["from the pool"]))
    return PlainTextResponse(result.stdout)


async def from_one_liner(request):
    return PlainTextResponse((await aiocmdpool.run("echo", "from a one-liner")).stdout)


def in_a_thread(request):
    """A view that blocks: the server runs it in one of anyio's forty threads."""
    return PlainTextResponse(sync.run("sleep", "0.05", check=True).stdout + b"from a thread\n")


async def stream(request):
    """Lines for as long as the client stays."""
    script = 'echo $$ >"$1"; while echo line; do sleep 0.01; done'
    command = CommandConfig("sh", ["-c", script, "sh", os.environ["READY"]], grace=0.5)

    async def lines():
        async with request.app.state.pool.open(command) as process:
            async for line in process.stdout:
                yield line

    return StreamingResponse(lines(), media_type="text/plain")


async def hang(request):
    await aiocmdpool.run("sh", *HANG)


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/pool", from_pool),
        Route("/run", from_one_liner),
        Route("/thread", in_a_thread),
        Route("/stream", stream),
        Route("/hang", hang),
    ],
)
