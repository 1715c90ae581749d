"""Callers that use anyio: scopes that cancel again and again, and threads of which none are left."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.to_thread
import pytest

from .support import helper, is_gone, pattern

pytestmark = pytest.mark.slow

TURNS = 50
PATIENCE = 20.0  # seconds after which something that should have happened is taken for broken


async def cancellations_in(task: "asyncio.Task", turns: int = TURNS) -> int:
    """Count how often a task is cancelled in so many turns of the loop."""
    before = task.cancelling()
    for _ in range(turns):
        await asyncio.sleep(0)
    return task.cancelling() - before


async def test_a_cancelled_scope_does_not_keep_the_loop_busy_until_the_command_is_dead(backend, ready, release):
    scope = anyio.CancelScope()

    async def use() -> None:
        with scope:
            await backend.execute(helper("clean_up_when_asked", ready.path, release.path, grace=60))

    task = asyncio.ensure_future(use())
    pid = int(await ready.wait())
    scope.cancel()
    assert await ready.wait() == b"asked"
    assert await cancellations_in(task) == 0
    assert not task.done()
    release.send()
    await task
    assert scope.cancelled_caught
    assert is_gone(pid)


async def test_another_cancellation_arrives_through_the_shield_and_goes_on(backend, ready, release):
    """The scope has no right to swallow what somebody else has sent."""
    scope = anyio.CancelScope()

    async def use() -> None:
        with scope:
            await backend.execute(helper("clean_up_when_asked", ready.path, release.path, grace=60))

    task = asyncio.ensure_future(use())
    pid = int(await ready.wait())
    scope.cancel()
    assert await ready.wait() == b"asked"
    task.cancel()
    await asyncio.sleep(0)
    release.send()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert is_gone(pid)


async def test_leaving_a_backend_in_a_cancelled_scope_waits_for_what_it_ran(backend, ready):
    task = asyncio.ensure_future(backend.execute(helper("ignore_sigterm", ready.path, grace=0.1)))
    pid = int(await ready.wait())
    with anyio.CancelScope() as scope:
        scope.cancel()
        await backend.aclose()
    assert is_gone(pid)
    await asyncio.wait([task], timeout=PATIENCE)
    assert task.exception() is not None


async def test_nothing_waits_for_threads_that_callers_may_hold(backend):
    """Neither those of anyio nor those of the loop: whoever has them may be waiting for this."""
    limiter = anyio.to_thread.current_default_thread_limiter()
    holders = [object() for _ in range(int(limiter.total_tokens))]
    go_on = threading.Event()
    executor = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(executor)
    for holder in holders:
        limiter.acquire_on_behalf_of_nowait(holder)
    holding = asyncio.get_running_loop().run_in_executor(None, go_on.wait)
    try:
        async with asyncio.timeout(PATIENCE):
            result = await backend.execute(helper("write_n_bytes", 2_000_000))
    finally:
        go_on.set()
        for holder in holders:
            limiter.release_on_behalf_of(holder)
        await holding
        executor.shutdown()
    assert result.stdout == pattern(2_000_000)
