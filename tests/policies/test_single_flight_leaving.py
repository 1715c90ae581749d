"""`SingleFlight`: whoever leaves a shared run, and whenever, the others keep it and nobody's run goes on."""

import asyncio

import pytest
from pool.support import HeldExecutor, StubbornExecutor, named, quiet

from aiocmdpool import ExecuteError
from aiocmdpool.policies import SingleFlight

from .support import cancellation_of, cancelled, turns

AT_REST = "0 in flight for 0 callers"


def callers(executor, count, command):
    return [asyncio.ensure_future(executor.execute(command)) for _ in range(count)]


async def test_the_last_to_leave_waits_through_further_cancellations():
    stubborn = StubbornExecutor()
    executor = SingleFlight(stubborn)
    [only] = callers(executor, 1, named("a"))
    await stubborn.holds("a")
    for _ in range(3):
        only.cancel()
        await quiet()
        assert not only.done()
    stubborn.let_go.set()
    await cancellation_of(only)
    assert AT_REST in repr(executor)


async def test_nobody_joins_a_run_that_is_being_ended():
    stubborn = StubbornExecutor()
    executor = SingleFlight(stubborn)
    [leaving] = callers(executor, 1, named("a"))
    await stubborn.holds("a")
    leaving.cancel()
    await quiet()
    [coming] = callers(executor, 1, named("a"))
    await quiet()
    assert stubborn.started == ["a", "a"]
    stubborn.let_go.set()
    await cancellation_of(leaving)
    assert "1 in flight for 1 callers" in repr(executor), "the end of the old run took the new one off the list"
    coming.cancel()
    await cancellation_of(coming)


async def test_a_run_whose_callers_have_all_left_fails_unheard():
    class FailsWhenEnded(HeldExecutor):
        async def execute(self, command):
            try:
                return await super().execute(command)
            except asyncio.CancelledError:
                raise ExecuteError("could not be ended") from None

    held = FailsWhenEnded()
    [only] = callers(SingleFlight(held), 1, named("a"))
    await held.holds("a")
    error = await cancelled(only)
    assert str(error.__cause__) == "could not be ended"


@pytest.mark.parametrize("after", range(6))
async def test_a_caller_that_is_cancelled_before_the_run_begins_ends_it(after):
    held = HeldExecutor()
    executor = SingleFlight(held)
    [only] = callers(executor, 1, named("a"))
    await turns(after)
    await cancelled(only)
    assert held.held == []
    assert AT_REST in repr(executor)


@pytest.mark.parametrize("after", range(6))
async def test_a_caller_that_is_cancelled_as_the_run_ends_disturbs_nobody(after):
    held = HeldExecutor()
    executor = SingleFlight(held)
    first, second = callers(executor, 2, named("a"))
    await held.holds("a")
    held.release("a")
    await turns(after)
    first.cancel()
    assert (await second).ok
    await asyncio.gather(first, return_exceptions=True)
    assert AT_REST in repr(executor)
