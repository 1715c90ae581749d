"""Statistics: each figure, and that they add up at every moment of whatever happens to the pool."""

import asyncio
import dataclasses
import random

import pytest
from contract.loops import LOOPS
from contract.support import sh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiocmdpool import (
    CommandConfig,
    CommandPool,
    CommandTimeout,
    ExecuteError,
    ExecutionConfig,
    PoolClosed,
    PoolStatistics,
    QueueFull,
    TaskStatus,
)

from .support import HeldExecutor, assert_counts_add_up, named, quiet, settled

pytestmark = pytest.mark.slow


async def test_each_figure(running_pool, held):
    pool = await running_pool(held, limit=2)
    assert pool.statistics() == figures()
    a, b, c, d, e = await pool.push_tasks(map(named, "abcde"))
    assert pool.statistics() == figures(submitted=5, queued=5)
    await held.holds("a", "b")
    assert pool.statistics() == figures(submitted=5, queued=3, running=2)
    c.cancel()
    assert pool.statistics() == figures(submitted=5, queued=2, running=2, cancelled=1)
    held.release("a")
    await a
    held.fail("b", ExecuteError("bad"))
    await held.holds("d", "e")
    assert pool.statistics() == figures(submitted=5, running=2, completed=1, failed=1, cancelled=1)
    held.fail("d", CommandTimeout("late"))
    e.cancel()
    await settled([b, d, e])
    assert pool.statistics() == figures(submitted=5, completed=1, failed=2, cancelled=2, timed_out=1)


def figures(**known) -> PoolStatistics:
    return PoolStatistics(**{field.name: known.get(field.name, 0) for field in dataclasses.fields(PoolStatistics)})


async def test_a_snapshot_does_not_change(new_pool):
    pool = new_pool()
    before = pool.statistics()
    pool.try_push_task(named("a"))
    assert before.submitted == 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.submitted = 1


async def test_a_push_that_is_refused_does_not_count(new_pool):
    pool = new_pool(max_size=1)
    pool.try_push_task(named("a"))
    with pytest.raises(QueueFull):
        pool.try_push_task(named("b"))
    await pool.stop()
    with pytest.raises(PoolClosed):
        pool.try_push_task(named("c"))
    assert pool.statistics() == figures(submitted=1, cancelled=1)


async def test_the_tracker_of_a_pool_follows_its_tasks(running_pool, held):
    pool = await running_pool(held, history=2)
    handles = await pool.push_tasks(map(named, "abcd"))
    await held.holds("a")
    assert pool.tracker.all() == {handle.id: handle.status for handle in handles}
    assert pool.tracker.counts()[TaskStatus.RUNNING] == 1
    for handle in handles:
        handle.cancel()
    await settled(handles)
    assert pool.tracker.all() == {handle.id: TaskStatus.CANCELLED for handle in (handles[3], handles[0])}


# -- whatever happens -------------------------------------------------------------------------------------------------

TASK = st.integers(0, 30)  # which task, of those there are
STEPS = st.one_of(
    st.tuples(st.just("push"), st.integers(-2, 2)),
    st.tuples(st.just("try_push"), st.integers(-2, 2)),
    st.tuples(st.just("try_push_batch"), st.integers(0, 5)),
    st.tuples(st.just("push_expiring"), st.just(0)),
    st.tuples(st.just("execute"), st.just(0)),
    st.tuples(st.just("cancel"), TASK),
    st.tuples(st.just("cancel_pusher"), TASK),
    st.tuples(st.just("release"), TASK),
    st.tuples(st.just("fail"), TASK),
    st.tuples(st.just("pop"), st.just(0)),
    st.tuples(st.just("clear"), st.just(0)),
    st.tuples(st.just("turn"), st.integers(1, 4)),
)


class Schedule:
    """Does to a pool what it is told, and compares the figures with the tasks after each step."""

    def __init__(self, limit, max_size, workers):
        self.executor = HeldExecutor()
        config = ExecutionConfig(concurrency_limit=limit)
        self.pool = CommandPool(config, executor=self.executor, max_size=max_size, history=10_000)
        self.limit, self.workers = limit, workers
        self.handles = []
        self.pushers = []
        self.settlements = []
        self._accept = self.pool._tasks.accept
        self.pool._tasks.accept = self.accept  # sees also what `execute` pushes
        self.numbers = iter(range(1_000_000))

    def accept(self, *args):
        handle = self._accept(*args)
        handle.add_done_callback(self.settlements.append)
        self.handles.append(handle)
        return handle

    def command(self):
        return named(next(self.numbers))

    def spawn(self, coroutine):
        self.pushers.append(asyncio.ensure_future(coroutine))

    async def step(self, kind, number):
        pool, executor = self.pool, self.executor
        try:
            match kind:
                case "push":
                    self.spawn(pool.push_task(self.command(), priority=number))
                case "try_push":
                    pool.try_push_task(self.command(), priority=number)
                case "try_push_batch":
                    pool.try_push_tasks([self.command() for _ in range(number)])
                case "push_expiring":
                    self.spawn(pool.push_task(self.command(), queue_timeout=0.0001))
                case "execute":
                    self.spawn(pool.execute(self.command()))
                case "cancel" if self.handles:
                    self.handles[number % len(self.handles)].cancel()
                case "cancel_pusher" if self.pushers:
                    self.pushers[number % len(self.pushers)].cancel()
                case "release" | "fail" if executor.waiting:
                    name = executor.waiting[number % len(executor.waiting)]
                    executor.release(name) if kind == "release" else executor.fail(name, ExecuteError("bad"))
                case "pop":
                    pool.pop_task()
                case "clear":
                    pool.clear()
                case "turn":
                    for _ in range(number):
                        await asyncio.sleep(0)
        except (QueueFull, PoolClosed):
            pass
        self.check()

    def check(self):
        assert_counts_add_up(self.pool, self.handles)
        assert self.pool.statistics().running <= min(self.limit, self.workers)
        assert self.executor.most <= min(self.limit, self.workers)
        assert 0 <= len(self.pool) <= (self.pool.max_size or len(self.pool))
        assert self.pool.tracker.all() == {handle.id: handle.status for handle in self.handles}

    async def run(self, steps, drain):
        await self.pool.start_executor(workers=self.workers)
        for step in steps:
            await self.step(*step)
        stopping = asyncio.ensure_future(self.pool.stop(drain=drain))
        while not stopping.done():
            await asyncio.sleep(0)
            self.check()
            self.executor.release(*self.executor.waiting)
        await stopping
        await asyncio.gather(*self.pushers, return_exceptions=True)
        await quiet()
        self.check()
        assert len(self.pool) == 0
        assert all(handle.done() for handle in self.handles)
        assert sorted(handle.id for handle in self.settlements) == [handle.id for handle in self.handles]


@pytest.mark.parametrize("loop", LOOPS)
@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    steps=st.lists(STEPS, max_size=60),
    limit=st.integers(1, 3),
    workers=st.integers(1, 4),
    max_size=st.sampled_from([1, 2, 5, None]),
    drain=st.booleans(),
)
def test_everything_adds_up_whatever_happens(loop, steps, limit, workers, max_size, drain):
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(run_schedule(steps, limit, max_size, workers, drain))


async def run_schedule(steps, limit, max_size, workers, drain):
    await Schedule(limit, max_size, workers).run(steps, drain)


@pytest.mark.parametrize("seed", range(2))
async def test_everything_adds_up_with_programs(backend, seed):
    luck = random.Random(seed)
    settlements, handles = [], []
    commands = [
        CommandConfig("true"),
        sh("exit 3"),
        CommandConfig("false", check=True),
        CommandConfig("/no/such/program"),
        sh("kill -KILL $$"),
        CommandConfig("sleep", ["60"], timeout=0.02),
        CommandConfig("head", ["-c", "100000", "/dev/zero"], max_output=10),
        CommandConfig("sleep", ["0.01"]),
    ]
    async with CommandPool(ExecutionConfig(concurrency_limit=3), executor=backend, max_size=8) as pool:
        for _ in range(60):
            handle = await pool.push_task(
                luck.choice(commands),
                priority=luck.randrange(3),
                queue_timeout=luck.choice([None, None, 0.01]),
            )
            handle.add_done_callback(settlements.append)
            handles.append(handle)
            if luck.random() < 0.3:
                luck.choice(handles).cancel()
            if luck.random() < 0.1:
                await asyncio.sleep(0.005)
            assert_counts_add_up(pool, handles)
        await pool.stop(timeout=luck.choice([None, 0.05]))
        assert_counts_add_up(pool, handles)
    await quiet()
    assert sorted(handle.id for handle in settlements) == [handle.id for handle in handles]
