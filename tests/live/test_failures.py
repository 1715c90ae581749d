"""What goes wrong beside the program: its worker, what prepares it, the descriptors."""

import asyncio
import os
import resource
import signal

import pytest
from contract.support import assert_dead, sh

from aiocmdpool.backends.workers.process_pool import ProcessPool
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import IoError, WorkerLost
from aiocmdpool.live.pipeline_run import run_pipeline

pytestmark = pytest.mark.slow


async def test_a_lost_worker_is_a_named_error_even_for_an_idempotent_command():
    """It cannot be run again: half of what it was told is gone."""
    async with ProcessPool(1) as pool:
        async with pool.open(CommandConfig("cat", idempotent=True)) as process:
            os.kill(pool.statistics().pids[0], signal.SIGKILL)
            assert await process.stdout.read() == b""
            with pytest.raises(WorkerLost):
                await process.wait()
        await assert_dead(process.pid)


async def test_a_lost_worker_ends_a_pipeline(ready):
    async with ProcessPool(1) as pool:
        stages = sh('echo $$ >"$1"; exec sleep 60', ready.path) | CommandConfig("cat")
        running = asyncio.create_task(run_pipeline(pool, stages))
        [pid] = await ready.pids(1)
        os.kill(pool.statistics().pids[0], signal.SIGKILL)
        with pytest.raises(WorkerLost):
            await running
        await assert_dead(pid)


async def test_a_prepared_program_can_be_talked_to(backend):
    async with backend.open(CommandConfig("cat", niceness=1)) as process:
        process.stdin.write(b"x")
        assert await process.stdout.read(1) == b"x"
        process.stdin.close()
        assert await process.wait() == 0


async def test_a_prepared_program_that_is_not_there_is_an_error_at_the_latest_on_leaving(backend):
    with pytest.raises(IoError, match="no-such-program"):
        async with backend.open(CommandConfig("no-such-program", niceness=1)) as process:
            assert await process.stdout.read() == b""


async def test_without_descriptors_nothing_stays_open(backend):
    await backend.execute(CommandConfig("true"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = sorted(map(int, os.listdir("/proc/self/fd")))
    free = next(number for number in range(10_000) if number not in before[:-1])
    for spare in (0, 3):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + spare, hard))
            with pytest.raises(IoError, match="descriptors"):
                async with backend.open(CommandConfig("true")):
                    pass
            with pytest.raises(IoError, match="descriptors"):
                await run_pipeline(backend, CommandConfig("true") | CommandConfig("cat") | CommandConfig("cat"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert len(os.listdir("/proc/self/fd")) == len(before)
