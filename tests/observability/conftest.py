"""Pools that are watched, and stopped at the end whatever the test has done to them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from aiocmdpool import CommandPool, ExecutionConfig

from .support import PATIENCE


@pytest.fixture
async def running_pool() -> AsyncIterator[Callable[..., Awaitable[CommandPool]]]:
    """Call it with hooks for a pool that runs real commands; `limit` is its concurrency."""
    pools: list[CommandPool] = []

    async def make(*hooks: Any, limit: int = 1, workers: int = 1, **options: Any) -> CommandPool:
        config = ExecutionConfig(concurrency_limit=limit, workers=workers)
        pool = CommandPool(config, hooks=hooks, **options)
        pools.append(pool)
        await pool.start_executor()
        return pool

    yield make
    async with asyncio.timeout(PATIENCE):
        for pool in pools:
            await pool.stop(drain=False)
