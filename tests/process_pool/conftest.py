"""Fixtures of the pool's tests: pools that are closed at the end, whatever the test has done to them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from aiocmdpool.backends.workers import heartbeat
from aiocmdpool.backends.workers.process_pool import ProcessPool

from .support import PATIENCE


@pytest.fixture
async def new_pool() -> AsyncIterator[Callable[..., ProcessPool]]:
    """Call it with the number of workers and options for a pool that is not started."""
    pools: list[ProcessPool] = []

    def make(workers: int | None = 1, **options: Any) -> ProcessPool:
        pools.append(ProcessPool(workers, **options))
        return pools[-1]

    yield make
    async with asyncio.timeout(PATIENCE):
        for pool in pools:
            await pool.aclose()


@pytest.fixture
def quick_beats(monkeypatch) -> None:
    """Look at busy workers more often than every second."""
    monkeypatch.setattr(heartbeat, "HEARTBEAT", 0.05)
