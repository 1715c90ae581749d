"""Wrong settings and wrong moments: an error at once, which says what is wrong and what would be right."""

import asyncio

import pytest

from aiocmdpool import CommandConfig, CommandPool, ConfigError, ExecutionConfig, PoolClosed, QueueFull

from .support import named, quiet

NO_WHOLE_NUMBER = [0, -1, 1.5, "2", True]
NO_SECONDS = [-1, -0.001, "1", True, float("nan"), float("inf"), [1]]


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"config": "process"}, "config"),
        ({"config": {"concurrency_limit": 2}}, "config"),
        ({"executor": 7}, "executor"),
        *[({"max_size": value}, "max_size") for value in NO_WHOLE_NUMBER],
        *[({"history": value}, "history") for value in [-1, 1.5, "2", None, True]],
    ],
)
def test_a_wrong_setting_is_refused(options, field):
    with pytest.raises(ConfigError, match=f"^{field}: ") as caught:
        CommandPool(**options)
    assert isinstance(caught.value, ValueError)


def test_a_pool_can_be_made_without_a_loop():
    pool = CommandPool()

    async def use():
        async with pool:
            return await pool.execute(CommandConfig("echo", ["hello"]))

    assert asyncio.run(use()).stdout == b"hello\n"


async def test_without_settings_programs_run():
    async with CommandPool() as pool:
        results = await asyncio.gather(*(pool.execute(CommandConfig("echo", [str(number)])) for number in range(5)))
    assert [result.text().strip() for result in results] == ["0", "1", "2", "3", "4"]
    assert pool.config == ExecutionConfig()
    assert pool.max_size == 1000


@pytest.mark.one_loop
@pytest.mark.parametrize("workers", NO_WHOLE_NUMBER)
async def test_a_wrong_number_of_workers_is_refused(new_pool, held, workers):
    pool = new_pool(held)
    with pytest.raises(ConfigError, match=r"^workers: "):
        await pool.start_executor(workers=workers)
    await pool.start_executor()


@pytest.mark.one_loop
@pytest.mark.parametrize("seconds", NO_SECONDS)
async def test_a_wrong_stop_timeout_is_refused_and_stops_nothing(running_pool, held, seconds):
    pool = await running_pool(held)
    with pytest.raises(ConfigError, match=r"^timeout: "):
        await pool.stop(timeout=seconds)
    assert not pool.is_stopped()


# -- pushes ------------------------------------------------------------------------------------------------------------

WRONG_PUSHES = [
    *[({"command": value}, "command") for value in ("ls", ["ls", "-l"], None, CommandConfig)],
    *[({"priority": value}, "priority") for value in ("high", 1.5, None)],
    *[({"queue_timeout": value}, "queue_timeout") for value in NO_SECONDS],
]


@pytest.mark.one_loop
@pytest.mark.parametrize(("wrong", "field"), WRONG_PUSHES)
async def test_a_wrong_push_is_refused_and_takes_no_place(running_pool, held, wrong, field):
    pool = await running_pool(held, max_size=1)
    arguments = {"command": named("a"), **wrong}
    command = arguments.pop("command")
    for push in (pool.push_task, pool.execute):
        with pytest.raises(ConfigError, match=f"^{field}: "):
            await push(command, **arguments)
    with pytest.raises(ConfigError, match=f"^{field}: "):
        pool.try_push_task(command, **arguments)
    with pytest.raises(ConfigError, match=f"^{field}: "):
        pool.try_push_tasks([command], **arguments)
    with pytest.raises(ConfigError, match=f"^{field}: "):
        await pool.push_tasks([command], **arguments)
    assert (len(pool), pool.statistics().submitted) == (0, 0)
    pool.try_push_task(named("b"))


async def test_a_wrong_push_is_refused_before_it_waits_for_room(new_pool):
    pool = new_pool(max_size=1)
    pool.try_push_task(named("a"))
    with pytest.raises(ConfigError):
        await pool.push_task("ls")
    with pytest.raises(ConfigError):
        pool.try_push_task("ls")
    with pytest.raises(QueueFull):
        pool.try_push_task(named("b"))


# -- moments -----------------------------------------------------------------------------------------------------------


async def test_execute_before_the_start_says_how_to_start(new_pool):
    """It would wait for ever."""
    pool = new_pool()
    command = named("a")
    with pytest.raises(PoolClosed, match=r"not started: use 'async with CommandPool\(\)', or await start_ex") as caught:
        await pool.execute(command)
    assert caught.value.command is command
    assert pool.statistics().submitted == 0


async def test_a_stopped_pool_does_not_start_again(new_pool, running_pool, held):
    for pool in (new_pool(held), await running_pool(held)):
        await pool.stop()
        with pytest.raises(PoolClosed, match="make a new one"):
            await pool.start_executor()
        with pytest.raises(PoolClosed, match="make a new one"):
            await pool.__aenter__()


async def test_starting_again_changes_nothing(new_pool, held):
    pool = new_pool(held)
    await pool.start_executor()
    await pool.start_executor(workers=5)
    async with pool as same:
        assert same is pool
        await pool.push_tasks(map(named, "abc"))
        await quiet()
        assert held.held == ["a"]
        for name in "abc":
            await held.holds(name)
            held.release(name)


# -- repr --------------------------------------------------------------------------------------------------------------


async def test_repr_shows_the_live_state(new_pool, held):
    pool = new_pool(held)
    assert repr(pool) == "<CommandPool new, 0 queued, 0 running, 0 submitted>"
    await pool.start_executor()
    await pool.push_tasks(map(named, "abc"))
    await held.holds("a")
    assert repr(pool) == "<CommandPool running, 2 queued, 1 running, 3 submitted>"
    await pool.stop(drain=False)
    assert repr(pool) == "<CommandPool stopped, 0 queued, 0 running, 3 submitted>"


async def test_repr_of_a_pool_that_was_stopped_before_it_started(new_pool):
    pool = new_pool()
    await pool.stop()
    assert repr(pool) == "<CommandPool stopped, 0 queued, 0 running, 0 submitted>"
