"""All policies in all orders, inside and around a pool, and a cancellation in every turn of the loop."""

import asyncio
import itertools
import random
import re

import pytest
from contract.support import helper, is_gone, sh
from pool.support import named, result_of

from aiocmdpool import CommandExecutor, CommandPool, ExecutionConfig, NonZeroExit, PoolClosed, ProcessBackend
from aiocmdpool.commands.errors import CircuitOpen
from aiocmdpool.policies import Admission, Backoff, CircuitBreaker, KeyLimit, RateLimit, Retry, SingleFlight

from .support import FakeTimeLoop, cancelled, in_fake_time, turns

POLICIES = {
    "retry": lambda inner: Retry(inner, attempts=3, backoff=Backoff(0.01)),
    "rate": lambda inner: RateLimit(inner, 1000, burst=2),
    "key": lambda inner: KeyLimit(inner, 2),
    "breaker": lambda inner: CircuitBreaker(inner, failures=5, reset_after=60),
    "flight": lambda inner: SingleFlight(inner),
    "admission": lambda inner: Admission(inner, min_memory=1, interval=0.01),
}
ORDERS = list(itertools.permutations(POLICIES))
SOME_ORDERS = [ORDERS[0], ORDERS[-1], *random.Random(7).sample(ORDERS, 4)]


def composed(order, executor):
    """The executor inside all policies, the first being the outermost."""
    for name in reversed(order):
        executor = POLICIES[name](executor)
    return executor


def assert_at_rest(executor):
    """That nobody runs, waits or pauses in any of the policies, as their representation tells."""
    busy = re.findall(r"\b(?!0)(\d+) (?:running|waiting|pausing|in flight|commands under)", repr(executor))
    assert not busy, repr(executor)


class Flaky:
    """Fails each command once, and one that is called so always."""

    def __init__(self):
        self.starts = {}

    async def execute(self, command):
        count = self.starts[command.program] = self.starts.get(command.program, 0) + 1
        await asyncio.sleep(0.001)
        status = 1 if count == 1 or command.program == "bad" else 0
        result = result_of(command, returncode=status)
        if status and command.check:
            raise NonZeroExit(f"{command.program} fails", result=result)
        return result


def test_each_order_runs_what_succeeds_and_reports_what_fails():
    for order in ORDERS:
        inner = Flaky()
        executor = composed(order, inner)
        assert isinstance(executor, CommandExecutor)

        async def scenario(executor=executor, inner=inner):
            good = [executor.execute(named(f"good-{number}")) for number in range(4)]
            equal = [executor.execute(named("equal")) for _ in range(3)]
            *results, error = await asyncio.gather(
                *good, *equal, executor.execute(named("bad", check=True)), return_exceptions=True
            )
            assert all(result.ok for result in results)
            assert type(error) is NonZeroExit
            assert len(error.__notes__) == 2
            assert inner.starts["bad"] == 3
            assert_at_rest(executor)

        with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
            try:
                runner.run(scenario())
            except BaseException as failure:
                failure.add_note(f"in the order {order}")
                raise


@pytest.mark.parametrize("order", SOME_ORDERS, ids="-".join)
async def test_real_commands_run_through_all_of_them(order, tmp_path):
    flaky = sh('echo run >> "$1"; test $(wc -l < "$1") -ge 2 && echo done', str(tmp_path / "runs"))
    async with ProcessBackend() as backend:
        executor = composed(order, backend)
        results = await asyncio.gather(executor.execute(flaky), executor.execute(named("true")))
        assert [(result.ok, result.text()) for result in results] == [(True, "done\n"), (True, "")]
        assert_at_rest(executor)


@pytest.mark.parametrize("order", SOME_ORDERS, ids="-".join)
async def test_a_cancellation_through_all_of_them_ends_the_program_first(order, ready):
    async with ProcessBackend() as backend:
        executor = composed(order, backend)
        running = asyncio.ensure_future(executor.execute(helper("sleep_after_ready", ready.path)))
        pid = int(await ready.wait())
        await cancelled(running)
        assert is_gone(pid)
        assert_at_rest(executor)


@pytest.mark.parametrize("order", SOME_ORDERS, ids="-".join)
async def test_a_closed_executor_is_told_through_all_of_them(order):
    backend = ProcessBackend()
    executor = composed(order, backend)
    await backend.aclose()
    for _ in range(7):  # more than open a circuit
        with pytest.raises(PoolClosed):
            await executor.execute(named("true"))
    assert_at_rest(executor)


@pytest.mark.parametrize("order", SOME_ORDERS[:2], ids="-".join)
async def test_they_work_inside_a_pool_and_around_one(order):
    async with ProcessBackend() as backend:
        inside = composed(order, backend)
        async with CommandPool(ExecutionConfig(concurrency_limit=2), executor=inside) as pool:
            around = composed(order, pool)
            results = await asyncio.gather(*[around.execute(named("echo").with_args(f"{n}")) for n in range(5)])
    assert [result.text() for result in results] == [f"{n}\n" for n in range(5)]
    assert_at_rest(around)


@pytest.mark.parametrize("order", SOME_ORDERS, ids="-".join)
async def test_a_pool_that_stops_at_once_leaves_none_of_them_busy(order, ready):
    async with ProcessBackend() as backend:
        executor = composed(order, backend)
        pool = CommandPool(ExecutionConfig(concurrency_limit=8), executor=executor)
        await pool.start_executor()
        await pool.push_tasks([helper("sleep_after_ready", ready.path, 60, label=f"{n}") for n in range(4)])
        pid = int(await ready.wait())
        await pool.stop(drain=False)
        assert is_gone(pid)
        assert_at_rest(executor)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("busy", [False, True])
def test_wherever_a_cancellation_arrives_nothing_is_lost(name, busy):
    """It arrives in each turn of the loop of a run, beside others that wait or not; what comes after is run."""
    for after in range(40):

        async def scenario(after=after):
            inner = Flaky()
            executor = POLICIES[name](inner)
            others = [asyncio.ensure_future(executor.execute(named("equal"))) for _ in range(4 * busy)]
            await turns(3)
            running = asyncio.ensure_future(executor.execute(named("equal")))
            following = [asyncio.ensure_future(executor.execute(named("equal"))) for _ in range(3 * busy)]
            await turns(after)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            for task in (*others, *following):
                await task
            assert_at_rest(executor)
            assert (await executor.execute(named("equal"))).returncode in (0, 1)
            assert_at_rest(executor)

        with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
            runner.run(scenario())


@pytest.mark.parametrize("order", SOME_ORDERS, ids="-".join)
def test_wherever_it_arrives_in_all_of_them_nothing_is_lost(order):
    for after in range(0, 60, 2):

        async def scenario(after=after):
            executor = composed(order, Flaky())
            tasks = [asyncio.ensure_future(executor.execute(named(f"a{number % 3}"))) for number in range(9)]
            await turns(after)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert all(task.result().ok for task in tasks[1::2])
            assert_at_rest(executor)

        with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
            runner.run(scenario())


# -- what an order means -----------------------------------------------------------------------------------------------


@in_fake_time
async def test_a_breaker_inside_a_retry_counts_each_attempt():
    executor = Retry(CircuitBreaker(Flaky(), failures=2, reset_after=60), attempts=5, backoff=0)
    with pytest.raises(CircuitOpen) as caught:
        await executor.execute(named("bad", check=True))
    assert len(caught.value.__notes__) == 2


@in_fake_time
async def test_a_breaker_around_a_retry_counts_each_command():
    inner = Flaky()
    executor = CircuitBreaker(Retry(inner, attempts=3, backoff=0), failures=2, reset_after=60)
    for _ in range(2):
        assert (await executor.execute(named("bad"))).returncode == 1
    with pytest.raises(CircuitOpen):
        await executor.execute(named("bad"))
    assert inner.starts == {"bad": 6}


@in_fake_time
async def test_a_pause_between_attempts_does_not_hold_the_permit_of_a_limit_inside():
    inner = Flaky()
    executor = Retry(KeyLimit(inner, 1), backoff=100)
    failing = asyncio.ensure_future(executor.execute(named("first")))
    await asyncio.sleep(50)
    assert (await executor.execute(named("first"))).ok
    assert not failing.done()
    assert (await failing).ok
