"""Executors, hooks, handlers and callers that misbehave in every way: each handle settles, and `stop` returns."""

import asyncio
import logging
import random

import pytest

from aiocmdpool import CommandPool, CommandPoolSeg, ExecutionConfig
from aiocmdpool.pool import runners

from .misbehaving import GRACE, Abort, Caller, Executor, Hook
from .support import assert_counts_add_up, named, quiet, settled

pytestmark = pytest.mark.slow

SEEDS = range(12)
CALLERS = 25
OVERTIME = 0.1  # seconds, instead of six
STOPPED_WITHIN = 15.0  # seconds


class RaisingHandler(logging.Handler):
    """A log handler of somebody else's, which fails."""

    def __init__(self, chance):
        super().__init__()
        self._chance = chance

    def emit(self, record):
        if self._chance.random() < 0.3:
            raise self._chance.choice([ValueError("in a log handler"), Abort("in a log handler")])


@pytest.fixture
def raising_log(monkeypatch):
    """Everything is logged, to a handler that raises now and then."""
    log, handler = logging.getLogger("aiocmdpool"), RaisingHandler(random.Random(7))
    monkeypatch.setattr(logging, "raiseExceptions", False)  # nothing to read for people
    level = log.level
    log.setLevel(logging.DEBUG)
    log.addHandler(handler)
    yield
    log.removeHandler(handler)
    log.setLevel(level)


@pytest.fixture
async def freed():
    """Set at the end, for what never ends else."""
    event = asyncio.Event()
    before = asyncio.all_tasks()
    yield event
    event.set()
    for task in asyncio.all_tasks() - before - {asyncio.current_task()}:
        await asyncio.wait([task], timeout=5)


@pytest.fixture
async def told():
    """What only the exception handler of the loop hears of; the guard of the tests would take it for a failure."""
    contexts = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: contexts.append(context))
    yield contexts
    await quiet()
    loop.set_exception_handler(before)


@pytest.mark.parametrize("kind", [CommandPool, CommandPoolSeg])
@pytest.mark.parametrize("seed", SEEDS)
async def test_every_handle_settles_and_stop_returns(kind, seed, monkeypatch, raising_log, freed, told):
    monkeypatch.setattr(runners, "OVERTIME", OVERTIME)
    chance = random.Random(seed)
    executor, hook = Executor(random.Random(seed + 1), freed), Hook(random.Random(seed + 2))
    limit = chance.choice([1, 2, 5])
    pool = kind(ExecutionConfig(concurrency_limit=limit), executor=executor, max_size=500, hooks=[hook])
    executor.pool = hook.pool = pool
    async with asyncio.timeout(STOPPED_WITHIN):
        await pool.start_executor()
        callers = [asyncio.create_task(Caller(chance, pool, hook.handles).call()) for _ in range(CALLERS)]
        await asyncio.wait(callers, timeout=chance.random())
        await pool.stop(drain=chance.random() < 0.5, timeout=0.2)
        await settled(hook.handles)
        await asyncio.wait(callers)
    for timer in executor.timers:
        timer.cancel()
    now = pool.statistics()
    assert (now.queued, now.running, len(pool)) == (0, 0, 0)
    assert now.submitted >= len(hook.handles)
    assert {caller.exception() for caller in callers if not caller.cancelled()} == {None}
    unexpected = [c for c in told if not isinstance(c.get("exception"), Abort | ValueError)]
    assert unexpected == []


@pytest.mark.parametrize("scene", [name for name in dir(Executor) if name.startswith("do_")])
async def test_after_any_misbehaviour_the_next_command_is_run(scene, monkeypatch, freed, told):
    """However often an executor does it: with one runner, and each of its tasks cancelled after a moment."""
    monkeypatch.setattr(runners, "OVERTIME", OVERTIME)
    executor = Executor(random.Random(1), freed)
    executor.scenes = [getattr(executor, scene)]
    pool = executor.pool = CommandPool(ExecutionConfig(concurrency_limit=1), executor=executor)
    async with asyncio.timeout(STOPPED_WITHIN):
        await pool.start_executor()
        handles = await pool.push_tasks([named("bad", grace=GRACE, leftover_grace=0)] * 5)
        for handle in handles:
            while handle.started_at is None and not handle.done():
                await asyncio.sleep(0)
            await quiet()
            handle.cancel()
            await handle.wait_settled()
        for timer in executor.timers:
            timer.cancel()

        async def end_well():
            await asyncio.sleep(0)

        executor.scenes = [end_well]
        handles.append(await pool.push_task(named("good")))
        assert (await handles[-1]).ok
        await pool.stop()
    assert_counts_add_up(pool, handles)
