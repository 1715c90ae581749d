"""Options for every command of a pool, by every door."""

import pytest
from pool_seg.support import Thread

from aiocmdpool import (
    CommandConfig,
    CommandPool,
    CommandPoolSeg,
    CommandTimeout,
    ExecutionConfig,
    ExecutionMode,
    NonZeroExit,
    Stdio,
    execute_pipeline,
    sync,
)

from .support import InstantExecutor

SHARED = {"env": {"SHARED": "yes"}, "check": True, "timeout": 30}
CONFIG = ExecutionConfig(mode=ExecutionMode.PROCESS, concurrency_limit=2, defaults=SHARED)
SHOW = CommandConfig.shell("echo $SHARED")
FAIL = CommandConfig.shell("exit 3")

one_loop = pytest.mark.one_loop()


@one_loop
async def test_every_door_of_a_pool_applies_them():
    async with CommandPool(CONFIG) as pool:
        results = [
            await pool.execute(SHOW),
            await (await pool.push_task(SHOW)),
            await pool.try_push_task(SHOW),
            *[await handle for handle in await pool.push_tasks([SHOW])],
            *[await handle for handle in pool.try_push_tasks([SHOW])],
            *[result async for result in pool.map([SHOW])],
        ]
        with pytest.raises(NonZeroExit) as caught:
            await pool.execute(FAIL)
        assert (await pool.execute(FAIL.with_options(check=False))).returncode == 3
    assert [result.stdout for result in results] == [b"yes\n"] * 6
    assert {result.command.timeout for result in results} == {30}
    assert caught.value.command.check


@one_loop
async def test_a_handle_shows_what_is_run():
    async with CommandPool(CONFIG) as pool:
        handle = pool.try_push_task(SHOW)
        assert handle.command == SHOW.with_options(**SHARED)
        assert (await handle).command == handle.command


@one_loop
async def test_threads_push_commands_that_get_them():
    async with CommandPoolSeg(CONFIG) as pool:
        handle = await Thread(pool.push_task, SHOW)
        [other] = await Thread(pool.push_tasks, [SHOW])
        assert [(await each).stdout for each in (handle, other)] == [b"yes\n"] * 2
        assert (await pool.execute(SHOW)).stdout == b"yes\n"


@one_loop
async def test_an_executor_of_somebody_else_gets_complete_commands():
    seen = []

    class Seen(InstantExecutor):
        async def execute(self, command):
            seen.append(command)
            return await super().execute(command)

    async with CommandPool(CONFIG, executor=Seen()) as pool:
        await pool.execute(SHOW)
    assert seen == [SHOW.with_options(**SHARED)]


@one_loop
async def test_a_live_process_has_them():
    async with CommandPool(CONFIG) as pool:
        async with pool.open(CommandConfig.shell("echo $SHARED; cat")) as process:
            assert await process.stdout.read(4) == b"yes\n"
            assert process.command.timeout == 30
        with pytest.raises(NonZeroExit):
            async with pool.open(FAIL) as process:
                await process.result()


@one_loop
async def test_the_stages_of_a_pipeline_have_them_where_they_are_no_pipes():
    defaults = {**SHARED, "stdin": b"fed\n", "stdout": Stdio.CAPTURE, "idle_timeout": 20}
    async with CommandPool(CONFIG.with_defaults(**defaults)) as pool:
        pipeline = CommandConfig.shell("cat; echo $SHARED") | CommandConfig.shell("cat; echo $SHARED")
        result = await execute_pipeline(pipeline, executor=pool)
        with pytest.raises(NonZeroExit):
            await execute_pipeline(SHOW | CommandConfig.shell("cat; exit 3"), executor=pool)
    assert result.stdout == b"fed\nyes\nyes\n"
    assert [each.command.timeout for each in result.results] == [30, 30]


@one_loop
async def test_a_deadline_of_the_pool_ends_what_has_none_of_its_own():
    async with CommandPool(CONFIG.with_defaults(timeout=0.2, grace=0.1)) as pool:
        with pytest.raises(CommandTimeout, match=r"its timeout of 0\.2 s"):
            await pool.execute(CommandConfig("sleep", ["60"]))
        assert (await pool.execute(CommandConfig("sleep", ["0.4"], timeout=None))).ok


def test_the_facade_applies_them():
    try:
        with sync.CommandPool(CONFIG) as pool, sync.CommandPoolSeg(CONFIG) as seg:
            assert pool.execute(SHOW).stdout == b"yes\n"
            assert pool.push_task(SHOW).result(30).stdout == b"yes\n"
            assert seg.push_task(SHOW).result(30).stdout == b"yes\n"
            assert [result.stdout for result in pool.map([SHOW])] == [b"yes\n"]
    finally:
        sync.shutdown()
