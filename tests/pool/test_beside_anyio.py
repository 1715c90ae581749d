"""anyio's scopes around what a pool does, and Starlette's around the endpoint of a client that has left."""

import asyncio
import contextlib

import anyio
import pytest
from contract.support import helper, is_gone
from contract.test_beside_anyio import PATIENCE, cancellations_in
from starlette.responses import StreamingResponse

from aiocmdpool import CommandPool, ExecutionConfig, ExecutionMode

pytestmark = pytest.mark.slow

MODES = ["PROCESS", "PROCESS_POOL"]


@pytest.fixture(params=MODES)
async def pool(request):
    config = ExecutionConfig(mode=ExecutionMode[request.param], concurrency_limit=2)
    async with CommandPool(config) as pool:
        yield pool


async def in_execute(pool, command):
    await pool.execute(command)


async def in_map(pool, command):
    async with contextlib.aclosing(pool.map([command])) as results:
        await anext(results)


async def in_open(pool, command):
    async with pool.open(command) as process:
        await process.wait()


async def in_stop(pool, command):
    await pool.push_task(command)
    await pool.stop()


@pytest.mark.parametrize("use", [in_execute, in_map, in_open, in_stop])
async def test_a_cancelled_scope_leaves_the_loop_in_peace(pool, ready, use):
    scope = anyio.CancelScope()

    async def caller() -> None:
        with scope:
            await use(pool, helper("note_sigterm", ready.path, grace=2.0))

    task = asyncio.ensure_future(caller())
    pid = int(await ready.wait())
    scope.cancel()
    assert await ready.wait() == b"TERM"
    assert await cancellations_in(task) == 0
    await task
    assert scope.cancelled_caught
    assert is_gone(pid)


class Client:
    """Talks ASGI to a response, reads its first chunk, and leaves when it is told to."""

    def __init__(self, version: str) -> None:
        self.scope = {"type": "http", "asgi": {"spec_version": version}}
        self.leaves = asyncio.Event()
        self.chunks: list[bytes] = []

    async def receive(self) -> dict:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict) -> None:
        if self.leaves.is_set():
            raise OSError("the client has left")
        self.chunks.append(message.get("body", b""))


@pytest.mark.one_loop("asyncio", "uvloop")
async def test_a_client_that_leaves_a_stream_ends_the_program(pool, ready):
    """Starlette cancels the scope of the response, and again in each turn, until the generator has come to its end."""
    client = Client("2.3")  # from 2.4 on, Starlette waits for the next `send` to fail

    async def lines():
        async with pool.open(helper("note_sigterm", ready.path, grace=2.0)) as process:
            yield b"it runs"
            async for line in process.stdout:
                yield line

    response = asyncio.ensure_future(StreamingResponse(lines())(client.scope, client.receive, client.send))
    pid = int(await ready.wait())
    async with asyncio.timeout(PATIENCE):
        while b"it runs" not in client.chunks:
            await asyncio.sleep(0.001)
    client.leaves.set()
    assert await ready.wait() == b"TERM"
    busy = sum([await cancellations_in(task) for task in asyncio.all_tasks() - {asyncio.current_task()}])
    assert busy == 0
    async with asyncio.timeout(PATIENCE):
        await response
    assert b"it runs" in client.chunks
    assert is_gone(pid)
