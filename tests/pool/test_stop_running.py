"""Many tasks run when the pool is stopped: they are cancelled in slices, and the loop goes on in between."""

import asyncio

import pytest
from contract.loops import LOOPS

from aiocmdpool import CommandConfig, CommandPool, CommandPoolSeg, ExecutionConfig, TaskCancelled
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


async def stop_idle(kind):
    """Return how many runners end in each turn of the loop while a pool without tasks is stopped."""
    pool = kind(ExecutionConfig(concurrency_limit=MANY), executor=Forever())
    await pool.start_executor()
    await asyncio.sleep(0)  # each of them waits for a task
    runners = [task for task in asyncio.all_tasks() if task.get_name().startswith("aiocmdpool-runner")]
    ended = []
    stopping = asyncio.ensure_future(pool.stop())
    async with asyncio.timeout(PATIENCE):
        while not stopping.done():
            before = sum(map(asyncio.Task.done, runners))
            await asyncio.sleep(0)
            ended.append(sum(map(asyncio.Task.done, runners)) - before)
    return ended


@pytest.mark.parametrize("kind", [CommandPool, CommandPoolSeg])
@pytest.mark.parametrize("loop", list(LOOPS))
def test_no_turn_of_the_loop_ends_all_idle_runners(loop, kind):
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        ended = runner.run(stop_idle(kind))
    assert sum(ended) == MANY
    assert max(ended) <= 100
