"""The backends whose programs one can talk to."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from contract.backends import BACKENDS


@pytest.fixture(params=["process", pytest.param("thread", marks=pytest.mark.slow), "process_pool"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """Each of them, entered."""
    async with BACKENDS[request.param]() as backend:
        yield backend
