"""Fixtures of the pool's tests: pools that are stopped at the end, whatever the test has done to them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from aiocmdpool import CommandPool, ExecutionConfig

from .support import PATIENCE, HeldExecutor


@pytest.fixture
async def new_pool() -> AsyncIterator[Callable[..., CommandPool]]:
    """Call it with an executor for a pool that is not started; `limit` is its concurrency."""
    pools: list[CommandPool] = []

    def make(executor: Any = None, *, limit: int = 1, **options: Any) -> CommandPool:
        pool = CommandPool(ExecutionConfig(concurrency_limit=limit), executor=executor, **options)
        pools.append(pool)
        return pool

    yield make
    async with asyncio.timeout(PATIENCE):
        for pool in pools:
            await pool.stop(drain=False)


@pytest.fixture
async def running_pool(new_pool: Callable[..., CommandPool]) -> Callable[..., Awaitable[CommandPool]]:
    """The same, for a pool that is started."""

    async def make(executor: Any = None, **options: Any) -> CommandPool:
        pool = new_pool(executor, **options)
        await pool.start_executor()
        return pool

    return make


@pytest.fixture
async def held() -> HeldExecutor:
    """An executor that holds each command until the test releases it."""
    return HeldExecutor()
