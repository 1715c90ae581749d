"""Fixtures of the tests of `CommandPoolSeg`: pools that are stopped at the end, and threads that are joined."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from pool.support import PATIENCE, HeldExecutor

from aiocmdpool import ExecutionConfig
from aiocmdpool.pool.seg_pool import CommandPoolSeg


@pytest.fixture
async def new_pool() -> AsyncIterator[Callable[..., CommandPoolSeg]]:
    """Call it with an executor for a pool that is not started; `limit` is its concurrency."""
    pools: list[CommandPoolSeg] = []

    def make(executor: Any = None, *, limit: int = 1, **options: Any) -> CommandPoolSeg:
        pool = CommandPoolSeg(ExecutionConfig(concurrency_limit=limit), executor=executor, **options)
        pools.append(pool)
        return pool

    yield make
    async with asyncio.timeout(PATIENCE):
        for pool in pools:
            await pool.stop(drain=False)


@pytest.fixture
async def running_pool(new_pool: Callable[..., CommandPoolSeg]) -> Callable[..., Awaitable[CommandPoolSeg]]:
    """The same, for a pool that is started."""

    async def make(executor: Any = None, **options: Any) -> CommandPoolSeg:
        pool = new_pool(executor, **options)
        await pool.start_executor()
        return pool

    return make


@pytest.fixture
async def held() -> HeldExecutor:
    """An executor that holds each command until the test releases it."""
    return HeldExecutor()


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as the interpreter lets them, and so in as many orders."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
