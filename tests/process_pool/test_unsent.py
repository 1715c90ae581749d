"""A request that could not be put on its way leaves nothing behind in the pool."""

import pytest
from contract.support import sh

from aiocmdpool import CommandConfig, ProcessPool
from aiocmdpool.backends.workers.connection import Connection

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("way", ["send", "send_with_descriptors"])
async def test_a_request_that_was_not_sent_is_not_waited_for(monkeypatch, way):
    def fail(*_: object) -> None:
        raise MemoryError

    async with ProcessPool(1) as pool:
        assert (await pool.execute(CommandConfig("true"))).ok
        with monkeypatch.context() as patch:
            patch.setattr(Connection, way, fail)
            with pytest.raises(MemoryError):
                await pool.execute(sh("cat", stdin=bytes(10_000 if way == "send_with_descriptors" else 0)))
        assert [worker.in_flight for worker in pool._crew.workers] == [0]
        assert (await pool.execute(sh("echo next"))).stdout == b"next\n"
