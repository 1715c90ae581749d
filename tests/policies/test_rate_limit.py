"""`RateLimit`: never more starts than allowed, in the order of the calls, and nothing taken by who is cancelled."""

import asyncio
import sys

import pytest
from contract.support import outcome
from hypothesis import given, settings
from hypothesis import strategies as st
from pool.support import HeldExecutor, named, quiet

from aiocmdpool import ConfigError, PoolClosed, ProcessBackend
from aiocmdpool.policies import RateLimit

from .support import FakeTimeLoop, Scripted, cancelled, in_fake_time, now, turns


async def test_commands_are_run_with_their_own_results():
    async with ProcessBackend() as backend:
        executor = RateLimit(backend, 200, burst=2)
        results = await asyncio.gather(*[executor.execute(named("echo").with_args(f"{n}")) for n in range(6)])
    assert [result.text() for result in results] == [f"{n}\n" for n in range(6)]


async def test_those_who_wait_for_a_closed_executor_are_told_at_their_turn():
    backend = ProcessBackend()
    executor = RateLimit(backend, 5)
    first, second = (asyncio.ensure_future(executor.execute(named("true"))) for _ in range(2))
    await turns(3)
    await backend.aclose()
    await outcome(first)
    assert isinstance(await outcome(second), PoolClosed)


@pytest.mark.parametrize(
    ("rate", "burst", "starts"),
    [(2, 1, [0, 0.5, 1, 1.5, 2]), (1, 3, [0, 0, 0, 1, 2]), (0.1, 2, [0, 0, 10, 20, 30]), (1e6, 1, [0] * 5)],
)
@in_fake_time
async def test_starts_are_as_far_apart_as_asked_for(rate, burst, starts):
    inner = Scripted()
    executor = RateLimit(inner, rate, burst=burst)
    await asyncio.gather(*[executor.execute(named(number)) for number in range(5)])
    assert inner.starts == starts


@in_fake_time
async def test_how_long_commands_run_does_not_matter():
    inner = Scripted(0, takes=100)
    executor = RateLimit(inner, 1)
    await asyncio.gather(*[executor.execute(named(number)) for number in range(4)])
    assert (inner.starts, inner.most) == ([0, 1, 2, 3], 4)


@in_fake_time
async def test_a_burst_comes_back_with_time():
    inner = Scripted()
    executor = RateLimit(inner, 2, burst=3)
    for _ in range(2):
        await asyncio.gather(*[executor.execute(named(number)) for number in range(4)])
        await asyncio.sleep(9.5)
    assert inner.starts == [0, 0, 0, 0.5, 10, 10, 10, 10.5]


def first_letter(command):
    return command.program[0] if command.program[0] != "-" else None


@in_fake_time
async def test_each_key_has_a_rate_of_its_own_and_none_has_no_limit():
    inner = Scripted()
    executor = RateLimit(inner, 1, key=first_letter)
    names = ["a1", "a2", "a3", "b1", "b2", "-1", "-2"]
    await asyncio.gather(*[executor.execute(named(name)) for name in names])
    starts = sorted(zip(inner.starts, [command.program for command in inner.commands], strict=True))
    assert starts == [(0, "-1"), (0, "-2"), (0, "a1"), (0, "b1"), (1, "a2"), (1, "b2"), (2, "a3")]
    assert "1 per second, burst 1 for each key, 0 waiting" in repr(executor)


@in_fake_time
async def test_keys_are_forgotten_once_that_makes_no_difference():
    executor = RateLimit(Scripted(), 1, key=lambda command: command.program)
    for number in range(1000):
        await executor.execute(named(number))
        await asyncio.sleep(0.1)
    assert len(executor._buckets) <= 64


@in_fake_time
async def test_a_key_that_was_used_a_moment_ago_is_not_forgotten():
    inner = Scripted()
    executor = RateLimit(inner, 1, key=lambda command: command.program)
    await asyncio.gather(*[executor.execute(named(name)) for name in ("it", *range(100), "it")])
    starts = [at for at, command in zip(inner.starts, inner.commands, strict=True) if command.program == "it"]
    assert starts == [0, 1]


@in_fake_time
async def test_a_key_that_somebody_waits_for_is_not_forgotten():
    """Not even on a loop that was held up past the time of that start."""
    inner, loop = Scripted(), asyncio.get_running_loop()
    executor = RateLimit(inner, 1, key=lambda command: command.program)
    of_one_key = [asyncio.ensure_future(executor.execute(named("it"))) for _ in range(2)]
    others = []

    def hold_up_and_come():
        loop.leap.now += 10
        others.extend(asyncio.ensure_future(executor.execute(named(number))) for number in range(100))
        of_one_key.append(asyncio.ensure_future(executor.execute(named("it"))))

    loop.call_later(0.5, hold_up_and_come)
    await asyncio.sleep(11)
    await asyncio.gather(*others, *of_one_key)
    starts = [at for at, command in zip(inner.starts, inner.commands, strict=True) if command.program == "it"]
    assert starts == [0, 10.5, 11.5]


def test_a_call_that_is_thrown_away_after_its_loop_says_nothing():
    async def wait():
        executor = RateLimit(Scripted(), 1)
        await executor.execute(named("first"))
        waiting = executor.execute(named("waiting"))
        waiting.send(None)
        return executor, waiting

    with asyncio.Runner() as runner:
        executor, waiting = runner.run(wait())
    waiting.close()
    assert "0 waiting" in repr(executor)


async def test_a_key_that_cannot_be_one_is_named():
    executor = RateLimit(ProcessBackend(), 1, key=lambda command: [command.program])
    with pytest.raises(ConfigError, match="not hashable"):
        await executor.execute(named("true"))


@given(
    rate=st.floats(0.01, 1000),
    burst=st.integers(1, 10),
    gaps=st.lists(st.floats(0, 5), min_size=1, max_size=30),
    leave=st.sets(st.integers(0, 29)),
)
@settings(deadline=None, max_examples=60)
def test_no_window_holds_more_starts_than_allowed(rate, burst, gaps, leave):
    """Whenever commands come, and whoever is cancelled while it waits; and the others come in the order of calls."""

    async def scenario():
        began, starts = now(), []

        class Noting:
            async def execute(self, command):
                starts.append((now() - began, int(command.program)))

        executor = RateLimit(Noting(), rate, burst=burst)
        tasks = []
        for number, gap in enumerate(gaps):
            await asyncio.sleep(gap)
            tasks.append(asyncio.ensure_future(executor.execute(named(number))))
            if number in leave and number > 0:
                await asyncio.sleep(0)
                tasks[number - 1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return starts

    with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
        starts = runner.run(scenario())
    for first, (since, _) in enumerate(starts):
        for last, (until, _) in enumerate(starts[first:], first):
            assert last - first + 1 <= burst + rate * (until - since) + 1e-6
    assert [number for _, number in starts] == sorted(number for _, number in starts)


@in_fake_time
async def test_a_newcomer_does_not_overtake_those_who_wait():
    """Not even on a loop that was held up past the time of a start: aiolimiter alone would let it through."""
    inner, newcomers, loop = Scripted(), [], asyncio.get_running_loop()
    executor = RateLimit(inner, 1)
    await executor.execute(named("first"))
    waiting = asyncio.ensure_future(executor.execute(named("waiting")))

    def hold_up_and_come():
        loop.leap.now += 1
        newcomers.append(asyncio.ensure_future(executor.execute(named("newcomer"))))

    loop.call_later(0.5, hold_up_and_come)
    await waiting
    await asyncio.gather(*newcomers)
    assert [command.program for command in inner.commands] == ["first", "waiting", "newcomer"]


@in_fake_time
async def test_who_is_cancelled_while_it_waits_takes_nothing():
    inner = Scripted()
    executor = RateLimit(inner, 1)
    await executor.execute(named("first"))
    waiting = [asyncio.ensure_future(executor.execute(named(number))) for number in range(6)]
    await asyncio.sleep(0.5)
    for number in (0, 2, 4):
        await cancelled(waiting[number])
    assert "3 waiting" in repr(executor)
    await asyncio.gather(*(waiting[number] for number in (1, 3, 5)))
    assert inner.starts == [0, 1, 2, 3]
    assert "0 waiting" in repr(executor)


@pytest.mark.parametrize("after", range(8))
@in_fake_time
async def test_a_cancellation_that_comes_with_the_start_loses_none(after):
    """It arrives in each of the turns of the loop around the start."""
    inner = Scripted()
    executor = RateLimit(inner, 1)
    await executor.execute(named("first"))
    waiting = asyncio.ensure_future(executor.execute(named("cancelled")))
    following = asyncio.ensure_future(executor.execute(named("following")))
    await asyncio.sleep(0.999)
    moment = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.001, moment.set_result, None)
    await moment
    await turns(after)
    waiting.cancel()
    await asyncio.gather(waiting, following, return_exceptions=True)
    started = [command.program for command in inner.commands]
    assert inner.starts == [0, 1, 2][: len(started)]
    assert started in (["first", "following"], ["first", "cancelled", "following"])


async def test_a_command_that_is_ended_has_been_started_and_counts():
    held = HeldExecutor()
    executor = RateLimit(held, 1 / 3600)
    await cancelled(await started(executor, held))
    second = asyncio.ensure_future(executor.execute(named("second")))
    await quiet()
    assert held.started == ["first"]
    await cancelled(second)


async def started(executor, held):
    task = asyncio.ensure_future(executor.execute(named("first")))
    await held.holds("first")
    return task


def test_a_missing_library_is_named_with_what_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiolimiter", None)
    with pytest.raises(ImportError, match=r"RateLimit needs aiolimiter: pip install 'aiocmdpool\[policies\]'"):
        RateLimit(ProcessBackend(), 1)
