"""What a result or an error says of the task that it ended: which one, and when that began."""

import time

import pytest
from contract.support import outcome, sh

from aiocmdpool import (
    CommandConfig,
    CommandPool,
    CommandPoolSeg,
    ExecutionConfig,
    ExecutionMode,
    execute_pipeline,
    run,
)
from aiocmdpool.policies import Retry

pytestmark = pytest.mark.slow

ENDS = {
    "result": CommandConfig("true"),
    "status": CommandConfig("false", check=True),
    "timeout": sh("sleep 60", timeout=0.05),
    "missing": CommandConfig("no-such-program"),
}


@pytest.mark.parametrize("mode", [ExecutionMode.PROCESS, ExecutionMode.PROCESS_POOL])
@pytest.mark.parametrize("make", [CommandPool, CommandPoolSeg])
async def test_whatever_ends_a_task_names_it_and_its_start(mode, make):
    async with make(ExecutionConfig(mode=mode)) as pool:
        for command in ENDS.values():
            before = time.time()
            handle = await pool.push_task(command) if make is CommandPool else pool.push_task(command)
            end = await outcome(handle)
            assert end.task_id == handle.id
            assert before - 0.05 <= end.started_at <= time.time()  # the wall clock may be set meanwhile, a little
            if getattr(end, "result", None) is not None:
                assert (end.result.task_id, end.result.started_at) == (handle.id, end.started_at)


async def test_without_a_pool_there_is_a_start_and_no_task():
    before = time.time()
    result = await run("true")
    assert (result.task_id, before - 0.05 <= result.started_at <= time.time()) == (None, True)


async def test_a_task_that_never_ran_has_no_start():
    pool = CommandPool()
    handle = await pool.push_task(CommandConfig("true"))
    handle.cancel()
    error = await outcome(handle)
    assert (error.task_id, error.started_at) == (handle.id, None)


@pytest.mark.parametrize("mode", list(ExecutionMode))
@pytest.mark.parametrize("wrap", [lambda pool: pool, Retry], ids=["pool", "policy"])
async def test_the_stages_of_a_pipeline_name_the_task_that_it_was(mode, wrap):
    async with CommandPool(ExecutionConfig(mode=mode)) as pool:
        before = await pool.execute(CommandConfig("true"))
        result = await execute_pipeline(CommandConfig("echo", ["a"]) | CommandConfig("cat"), executor=wrap(pool))
        after = await pool.execute(CommandConfig("true"))
    assert result.stdout == b"a\n"
    [task_id] = {stage.task_id for stage in result.results}
    assert before.task_id < task_id < after.task_id
    assert (await execute_pipeline(CommandConfig("echo") | CommandConfig("cat"))).results[0].task_id is None
