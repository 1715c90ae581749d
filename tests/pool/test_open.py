"""Live processes as tasks of a pool."""

import asyncio
import signal

import pytest
from contract.support import is_gone, sh

from aiocmdpool import (
    CommandConfig,
    CommandPool,
    CommandTimeout,
    ExecuteError,
    ExecutionConfig,
    ExecutionMode,
    PoolClosed,
    QueueFull,
    TaskCancelled,
    TaskStatus,
)

pytestmark = pytest.mark.slow

ECHO = sh("read line; echo got $line")
STAYS = CommandConfig("cat", grace=20)


@pytest.fixture(params=["PROCESS", "PROCESS_POOL"])
async def pool(request):
    config = ExecutionConfig(mode=ExecutionMode[request.param], concurrency_limit=1)
    async with CommandPool(config, max_size=1) as pool:
        yield pool


async def test_it_is_a_task_like_any_other(pool):
    async with pool.open(ECHO) as process:
        assert pool.statistics().running == 1
        process.stdin.write(b"hello\n")
        assert await process.stdout.read() == b"got hello\n"
        assert await process.wait() == 0
    now = pool.statistics()
    assert (now.submitted, now.completed, now.running) == (1, 1, 0)


async def test_it_holds_a_permit_until_the_block_is_left(pool):
    async with pool.open(STAYS):
        handle = await pool.push_task(CommandConfig("true"))
        with pytest.raises(QueueFull):
            async with pool.open(STAYS, wait=False):
                pass
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), pool.open(STAYS):
                pass
        assert handle.status is TaskStatus.PENDING
    assert (await handle).returncode == 0
    assert pool.statistics().cancelled == 1  # by leaving the block; what did not come in was never accepted


async def test_a_place_in_the_queue_is_given_back_by_who_leaves(pool):
    async with pool.open(STAYS):
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05), pool.open(STAYS):
                    pass
            assert len(pool) == 0
        with pytest.raises(CommandTimeout, match="queue_timeout"):
            async with pool.open(STAYS, queue_timeout=0.05):
                pass


async def test_stop_ends_it(pool):
    async def talk():
        async with pool.open(STAYS) as process:
            running.set_result(process)
            await process.wait()

    running = asyncio.get_running_loop().create_future()
    talking = asyncio.create_task(talk())
    process = await running
    await pool.stop(drain=False)
    with pytest.raises(TaskCancelled):
        await talking
    assert (process.returncode, is_gone(process.pid)) == (-signal.SIGTERM, True)
    with pytest.raises(PoolClosed):
        async with pool.open(STAYS):
            pass


async def test_where_it_cannot_be_it_says_so():
    class Plain:
        async def execute(self, command):
            raise AssertionError

    pool = CommandPool(executor=Plain())
    with pytest.raises(PoolClosed, match="not started"):
        pool.open(STAYS)
    async with pool:
        with pytest.raises(ExecuteError, match="no open"):
            pool.open(STAYS)
