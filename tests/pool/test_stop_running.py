"""Many tasks run when the pool is stopped: they are cancelled in slices, and the loop goes on in between."""

import asyncio

import pytest
from contract.loops import LOOPS

from aiocmdpool import CommandConfig, CommandPool, ExecutionConfig, TaskCancelled
from pool.support import PATIENCE

MANY = 1000


class Forever:
    def __init__(self):
        self.turn = self.running = 0
        self.cancelled_in = []

    async def execute(self, command):
        self.running += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled_in.append(self.turn)
            raise


async def stop_many():
    executor = Forever()
    pool = CommandPool(ExecutionConfig(concurrency_limit=MANY), executor=executor, max_size=None)
    await pool.start_executor()
    handles = pool.try_push_tasks([CommandConfig("x")] * MANY)
    while executor.running < MANY:
        await asyncio.sleep(0)
    stopping = asyncio.ensure_future(pool.stop(drain=False))
    async with asyncio.timeout(PATIENCE):
        while not stopping.done():
            executor.turn += 1
            await asyncio.sleep(0)
    assert all(isinstance(handle.exception(), TaskCancelled) for handle in handles)
    return executor.cancelled_in


@pytest.mark.parametrize("loop", list(LOOPS))
def test_no_turn_of_the_loop_cancels_them_all(loop):
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        turns = runner.run(stop_many())
    assert len(turns) == MANY
    assert max(turns.count(turn) for turn in set(turns)) <= 100
