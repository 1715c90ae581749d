"""`CommandPool.map`: order, bounds, sources of all kinds, and what is left when the iteration is left."""

import asyncio
import contextlib
import gc
import itertools
from contextlib import aclosing

import pytest
from contract.support import helper, is_gone, outcome, returns_before_programs_end, sh

from aiocmdpool import (
    CommandConfig,
    CommandPool,
    CommandResult,
    ConfigError,
    ExecuteError,
    ExecutionConfig,
    PoolClosed,
    TaskCancelled,
)
from aiocmdpool.pool import mapping, runners

from .support import InstantExecutor, StubbornExecutor, named, quiet, soon


async def names_of(results):
    return [result.command.program async for result in results]


async def as_async(commands):
    for command in commands:
        await asyncio.sleep(0)
        yield command


def failing(error, *names):
    """A source that raises after these."""
    yield from map(named, names)
    raise error


def make_source(kind, commands):
    return {"list": list, "generator": iter, "async generator": as_async}[kind](commands)


def assert_all_settled(pool):
    now = pool.statistics()
    assert (now.queued, now.running, len(pool)) == (0, 0, 0)


# -- order ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["list", "generator", "async generator"])
@pytest.mark.parametrize("ordered", [True, False])
async def test_every_command_gives_one_result(running_pool, kind, ordered):
    pool = await running_pool(InstantExecutor(), limit=3)
    names = [str(number) for number in range(50)]
    given = await names_of(pool.map(make_source(kind, map(named, names)), ordered=ordered))
    assert given == names if ordered else sorted(given) == sorted(names)
    assert_all_settled(pool)


async def test_results_come_in_the_order_of_the_commands(running_pool, held):
    pool = await running_pool(held, limit=4)
    names = asyncio.create_task(names_of(pool.map(map(named, "abcd"))))
    await held.holds(*"abcd")
    held.release(*"dbca")
    assert await names == ["a", "b", "c", "d"]


async def test_results_come_as_they_complete(running_pool, held):
    pool = await running_pool(held, limit=4)
    results = pool.map(map(named, "abcd"), ordered=False)
    for name in "dbca":
        following = asyncio.ensure_future(anext(results))
        await held.holds(name)
        held.release(name)
        assert (await following).command.program == name
    assert isinstance(await outcome(anext(results)), StopAsyncIteration)


@pytest.mark.parametrize("ordered", [True, False])
async def test_no_commands_give_no_results(running_pool, ordered):
    pool = await running_pool(InstantExecutor())
    assert await names_of(pool.map([], ordered=ordered)) == []
    assert await names_of(pool.map(as_async([]), ordered=ordered)) == []


async def test_two_maps_share_a_pool(running_pool):
    pool = await running_pool(InstantExecutor(), limit=2, max_size=1)
    first, second = await asyncio.gather(
        names_of(pool.map(map(named, range(20)))),
        names_of(pool.map(as_async(map(named, range(20, 40))))),
    )
    assert (first, second) == ([*map(str, range(20))], [*map(str, range(20, 40))])


# -- bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("in_flight", [1, 2, 5])
async def test_no_more_are_in_flight_than_allowed(running_pool, ordered, in_flight):
    pool = await running_pool(InstantExecutor(), limit=3)
    yielded = 0
    async for _ in pool.map(map(named, range(40)), ordered=ordered, in_flight=in_flight):
        yielded += 1
        await quiet()  # a consumer who takes its time
        assert pool.statistics().submitted - yielded <= in_flight
    assert yielded == 40


async def test_as_many_are_in_flight_as_allowed(running_pool, held):
    pool = await running_pool(held, limit=2)
    for in_flight, expected in ((None, 4), (1, 1), (7, 7)):
        before = pool.statistics().submitted
        async with aclosing(pool.map(map(named, itertools.count()), in_flight=in_flight)) as results:
            following = asyncio.ensure_future(anext(results))
            await quiet()
            assert pool.statistics().submitted - before == expected
            following.cancel()
            await asyncio.wait([following])
    assert_all_settled(pool)


async def test_a_result_that_was_yielded_gives_its_place_to_the_next(running_pool, held):
    pool = await running_pool(held)
    async with aclosing(pool.map(map(named, itertools.count()), in_flight=1)) as results:
        first = asyncio.ensure_future(anext(results))
        await held.holds(0)
        held.release(0)
        await first
        await held.holds(1)


@pytest.mark.parametrize("kind", ["generator", "async generator"])
@pytest.mark.parametrize("ordered", [True, False])
async def test_a_source_may_be_endless(running_pool, kind, ordered):
    taken = []

    def endless():
        for number in itertools.count():
            taken.append(number)
            yield named(number)

    pool = await running_pool(InstantExecutor(), limit=2)
    async with aclosing(pool.map(make_source(kind, endless()), ordered=ordered, in_flight=4)) as results:
        for yielded in range(1, 101):
            await anext(results)
            assert len(taken) <= yielded + 4 + 1  # the last one waits for its place
    assert_all_settled(pool)


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_slow_source_does_not_hold_back_results(running_pool, ordered):
    more = asyncio.Event()

    async def slow():
        yield named("a")
        await more.wait()
        yield named("b")

    pool = await running_pool(InstantExecutor())
    results = pool.map(slow(), ordered=ordered)
    assert (await anext(results)).command.program == "a"
    more.set()
    assert await names_of(results) == ["b"]


async def test_a_full_queue_holds_the_source_back(running_pool, held):
    pool = await running_pool(held, max_size=2)
    names = asyncio.create_task(names_of(pool.map(map(named, range(10)), in_flight=8)))
    for number in range(10):
        await held.holds(number)
        await quiet()
        assert len(pool) == min(2, 9 - number)
        held.release(number)
    assert await names == [str(number) for number in range(10)]


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False])
async def test_the_first_error_is_raised_and_the_rest_cancelled(running_pool, held, ordered):
    pool = await running_pool(held, limit=3)
    results = pool.map(map(named, itertools.count()), ordered=ordered)
    first = asyncio.ensure_future(anext(results))
    await held.holds(0, 1, 2)
    held.release(0)
    assert (await first).command.program == "0"
    second = asyncio.ensure_future(anext(results))
    await held.holds(3)
    error = ExecuteError("bad")
    held.fail(1, error)
    assert await outcome(second) is error
    assert held.held == []
    assert_all_settled(pool)
    assert isinstance(await outcome(anext(results)), StopAsyncIteration)


@pytest.mark.parametrize("ordered", [True, False])
async def test_errors_may_stand_in_for_results(running_pool, held, ordered):
    pool = await running_pool(held, limit=3)
    error = ExecuteError("bad")

    async def collect():
        return [item async for item in pool.map(map(named, "abc"), ordered=ordered, return_errors=True)]

    items = asyncio.create_task(collect())
    await held.holds(*"abc")
    held.fail("b", error)
    held.release("a", "c")
    given = await items
    assert [item for item in given if isinstance(item, ExecuteError)] == [error]
    assert [item.command.program for item in given if item is not error] == ["a", "c"]
    if ordered:
        assert given[1] is error


async def test_a_task_that_somebody_cancels_is_an_error_item(running_pool, held):
    pool = await running_pool(held)
    results = pool.map(map(named, "abc"), return_errors=True, in_flight=3)
    first = asyncio.ensure_future(anext(results))
    await held.holds("a")
    assert pool.pop_task() == named("b")
    held.release("a")
    assert (await first).ok
    assert isinstance(await anext(results), TaskCancelled)
    await held.holds("c")
    held.release("c")
    assert (await anext(results)).ok


async def test_what_is_no_error_of_execution_is_raised_even_so(running_pool, held):
    pool = await running_pool(held, limit=2)
    results = pool.map(map(named, itertools.count()), return_errors=True)
    first = asyncio.ensure_future(anext(results))
    await held.holds(0)
    held.fail(0, ZeroDivisionError())
    assert isinstance(await outcome(first), ZeroDivisionError)
    assert_all_settled(pool)


@pytest.mark.parametrize("kind", ["generator", "async generator"])
@pytest.mark.parametrize("return_errors", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
async def test_a_source_that_raises_does_so_after_the_results(running_pool, kind, return_errors, ordered):
    pool = await running_pool(InstantExecutor())
    source = make_source(kind, failing(ZeroDivisionError("in the source"), *"abc"))
    results = pool.map(source, ordered=ordered, return_errors=return_errors)
    assert [(await anext(results)).command.program for _ in range(3)] == ["a", "b", "c"]
    with pytest.raises(ZeroDivisionError, match="in the source"):
        await anext(results)
    assert_all_settled(pool)


async def test_a_source_of_something_else_than_commands_is_an_error(running_pool):
    pool = await running_pool(InstantExecutor())
    with pytest.raises(ConfigError, match="command: 'ls' is not CommandConfig"):
        await names_of(pool.map(["ls"]))


# -- leaving the iteration --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False])
async def test_closing_cancels_what_is_in_flight_and_waits_for_it(running_pool, ordered):
    executor = StubbornExecutor()
    pool = await running_pool(executor, limit=2)
    results = pool.map(map(named, itertools.count()), ordered=ordered, in_flight=5)
    first = asyncio.ensure_future(anext(results))
    await executor.holds(0, 1)
    executor.release(0)
    await first
    await executor.holds(1, 2)
    closing = asyncio.create_task(results.aclose())
    await quiet()
    assert not closing.done()
    assert len(pool) == 0
    executor.let_go.set()
    await closing
    assert executor.held == []
    assert_all_settled(pool)


@pytest.mark.parametrize("leave", ["by closing", "by an error"])
async def test_a_cancellation_while_it_is_being_left_is_not_lost(running_pool, leave):
    executor = StubbornExecutor()
    pool = await running_pool(executor, limit=2)
    results = pool.map(map(named, itertools.count()))
    first = asyncio.ensure_future(anext(results))
    await executor.holds(0, 1)
    if leave == "by an error":
        leaving = first
        executor.fail(0, ExecuteError("bad"))
    else:
        executor.release(0)
        await first
        leaving = asyncio.create_task(results.aclose())
    for _ in range(2):
        await quiet()
        assert not leaving.done()
        leaving.cancel()
    executor.let_go.set()
    assert isinstance(await outcome(leaving), asyncio.CancelledError)
    assert_all_settled(pool)


async def test_a_break_inside_aclosing_cancels_what_is_in_flight(running_pool):
    pool = await running_pool(InstantExecutor(), limit=2)
    async with aclosing(pool.map(map(named, itertools.count()))) as results:
        async for result in results:
            if result.command.program == "10":
                break
    assert_all_settled(pool)


@pytest.mark.one_loop
async def test_an_iteration_that_is_dropped_is_closed_by_the_loop(running_pool, held):
    pool = await running_pool(held)
    results = pool.map(map(named, itertools.count()))
    first = asyncio.ensure_future(anext(results))
    await held.holds(0)
    held.release(0)
    await first
    del results, first
    gc.collect()
    await quiet()
    assert_all_settled(pool)


async def test_an_iteration_that_never_begins_pushes_nothing(running_pool, held):
    pool = await running_pool(held)
    results = pool.map(map(named, "abc"))
    await quiet()
    await results.aclose()
    pool.map(map(named, "abc"))
    gc.collect()
    assert pool.statistics().submitted == 0


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_consumer_that_is_cancelled_leaves_nothing_in_flight(running_pool, ordered):
    executor = StubbornExecutor()
    pool = await running_pool(executor, limit=2)
    consumer = asyncio.create_task(names_of(pool.map(map(named, itertools.count()), ordered=ordered)))
    await executor.holds(0, 1)
    for _ in range(3):
        consumer.cancel()
        await quiet()
        assert not consumer.done()
    executor.let_go.set()
    assert isinstance(await outcome(consumer), asyncio.CancelledError)
    assert_all_settled(pool)


@pytest.mark.parametrize("turns", range(8))
async def test_a_consumer_may_be_cancelled_at_any_moment(running_pool, held, turns):
    pool = await running_pool(held, max_size=1)
    consumer = asyncio.create_task(names_of(pool.map(map(named, itertools.count()))))
    for _ in range(turns):
        await asyncio.sleep(0)
    consumer.cancel()
    assert isinstance(await outcome(consumer), asyncio.CancelledError)
    assert held.started == held.ended
    assert_all_settled(pool)


async def test_a_consumer_may_be_cancelled_while_the_source_is_slow(running_pool):
    closed = []

    async def slow():
        try:
            yield named("a")
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    pool = await running_pool(InstantExecutor())
    results = pool.map(slow())
    await anext(results)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(results)
    assert closed == [True]
    assert_all_settled(pool)


async def test_an_exception_of_the_consumer_leaves_nothing_in_flight(running_pool):
    pool = await running_pool(InstantExecutor(), limit=2)

    async def consume():
        async with aclosing(pool.map(map(named, itertools.count()))) as results:
            async for _ in results:
                raise ZeroDivisionError

    assert isinstance(await outcome(consume()), ZeroDivisionError)
    assert_all_settled(pool)


# -- sources that misbehave -------------------------------------------------------------------------------------------


class Source:
    """An async generator for each iteration, which only the iteration knows."""

    def __init__(self, closed):
        self._closed = closed

    async def __aiter__(self):
        try:
            for number in itertools.count():
                yield named(number)
                await asyncio.sleep(0)
        finally:
            self._closed.append(asyncio.current_task().get_name())


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("make", [lambda source: source, aiter], ids=["iterable", "generator"])
@pytest.mark.parametrize("leave", ["aclose", "error", "cancellation"])
async def test_an_async_generator_is_closed_when_the_iteration_is_left(running_pool, ordered, make, leave):
    closed = []
    pool = await running_pool(InstantExecutor(), limit=2)
    source = make(Source(closed))
    results = pool.map(source, ordered=ordered)
    await anext(results)
    if leave == "aclose":
        await results.aclose()
    elif leave == "error":
        await pool.stop(drain=False)
        while isinstance(await outcome(anext(results)), CommandResult):
            pass
    else:
        consumer = asyncio.create_task(names_of(results))
        await quiet()
        consumer.cancel()
        await asyncio.wait([consumer])
    assert closed == ["aiocmdpool-map"]  # in the task that iterated over it, as cancel scopes in it need
    assert_all_settled(pool)


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_source_that_swallows_the_cancellation_and_yields_is_closed_at_its_next_yield(running_pool, ordered):
    closed = []

    async def swallow():
        try:
            for number in itertools.count():
                yield named(number)
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.001)
        finally:
            closed.append(True)

    pool = await running_pool(InstantExecutor())
    results = pool.map(swallow(), ordered=ordered)
    await anext(results)
    submitted = pool.statistics().submitted
    await soon(results.aclose())
    assert closed == [True]
    assert pool.statistics().submitted <= submitted + 1
    assert_all_settled(pool)


async def test_what_a_source_raises_when_it_is_closed_is_logged(running_pool, caplog):
    async def fail_to_close():
        try:
            yield named("a")
            await asyncio.sleep(60)
        finally:
            raise ValueError("cannot close")

    pool = await running_pool(InstantExecutor())
    results = pool.map(fail_to_close())
    await anext(results)
    await quiet()
    await soon(results.aclose())
    assert "failed when it was closed" in caplog.text
    assert "ValueError: cannot close" in caplog.text


@pytest.mark.parametrize("where", ["next", "close"])
@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_source_that_never_ends_is_left_behind(running_pool, monkeypatch, caplog, where, cancelled):
    monkeypatch.setattr(mapping, "SOURCE_TIMEOUT", 0.05)
    freed = asyncio.Event()

    async def wait():
        while not freed.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await freed.wait()

    async def stubborn():
        try:
            yield named("a")
            if where == "next":
                await wait()
            else:
                yield named("b")
                await asyncio.sleep(60)
        finally:
            await wait()

    pool = await running_pool(InstantExecutor())
    results = pool.map(stubborn())
    await anext(results)
    leaving = asyncio.create_task(names_of(results) if cancelled else results.aclose())
    await quiet()
    if cancelled:
        leaving.cancel()
    error = await soon(outcome(leaving))
    assert isinstance(error, asyncio.CancelledError) if cancelled else error is None
    assert "goes on although it was cancelled, and is left to itself" in caplog.text
    assert_all_settled(pool)
    freed.set()
    await quiet()


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_cancelled_error_of_a_source_is_no_cancellation_of_the_consumer(running_pool, ordered):
    pool = await running_pool(InstantExecutor())
    error = await outcome(names_of(pool.map(failing(asyncio.CancelledError("bad"), "a"), ordered=ordered)))
    assert isinstance(error, TaskCancelled)
    assert "raised CancelledError" in str(error)
    assert asyncio.current_task().cancelling() == 0


async def test_an_executor_that_swallows_its_cancellation_does_not_hold_a_map(running_pool, monkeypatch):
    monkeypatch.setattr(runners, "OVERTIME", 0.05)
    executor = StubbornExecutor()
    pool = await running_pool(executor)
    commands = (named(number, grace=0, leftover_grace=0) for number in itertools.count())
    consumer = asyncio.create_task(names_of(pool.map(commands)))
    await executor.holds(0)
    consumer.cancel()
    assert isinstance(await soon(outcome(consumer)), asyncio.CancelledError)
    assert_all_settled(pool)
    executor.let_go.set()
    await quiet()


# -- the pool stops meanwhile -----------------------------------------------------------------------------------------


async def test_a_drain_gives_the_results_of_what_was_in_flight(running_pool, held):
    pool = await running_pool(held)
    results = pool.map(map(named, itertools.count()), in_flight=3)
    first = asyncio.ensure_future(anext(results))
    await held.holds(0)
    stopping = asyncio.create_task(pool.stop())
    await quiet()
    for number in range(3):
        await held.holds(number)
        held.release(number)
    assert (await first).ok
    assert [(await anext(results)).command.program for _ in range(2)] == ["1", "2"]
    assert isinstance(await outcome(anext(results)), PoolClosed)
    await stopping
    assert held.started == ["0", "1", "2"]


async def test_a_stop_without_a_drain_ends_the_iteration_with_an_error(running_pool, held):
    pool = await running_pool(held, limit=2)
    consumer = asyncio.create_task(names_of(pool.map(map(named, itertools.count()))))
    await held.holds(0, 1)
    await pool.stop(drain=False)
    assert isinstance(await outcome(consumer), TaskCancelled)


async def test_a_stop_ends_an_iteration_that_waits_for_room(running_pool, held):
    pool = await running_pool(held, max_size=1)
    consumer = asyncio.create_task(names_of(pool.map(map(named, range(9)), in_flight=9)))
    await held.holds(0)
    await quiet()
    stopping = asyncio.create_task(pool.stop())
    for number in range(2):
        await held.holds(number)
        held.release(number)
    assert isinstance(await outcome(consumer), PoolClosed)
    await stopping


# -- misuse -----------------------------------------------------------------------------------------------------------


@pytest.mark.one_loop
@pytest.mark.parametrize("in_flight", [0, -1, 1.5, "2", True])
async def test_a_wrong_in_flight_is_refused_at_once(running_pool, held, in_flight):
    pool = await running_pool(held)
    with pytest.raises(ConfigError, match="in_flight"):
        pool.map([], in_flight=in_flight)


async def test_a_map_needs_a_started_pool(new_pool):
    with pytest.raises(PoolClosed, match=r"start_executor\(\) first"):
        new_pool().map([])


@pytest.mark.parametrize("source", [None, 7, named("a")])
async def test_a_source_must_be_iterable(running_pool, held, source):
    pool = await running_pool(held)
    with pytest.raises(TypeError):
        await names_of(pool.map(source))
    assert_all_settled(pool)


# -- with programs ----------------------------------------------------------------------------------------------------


async def test_programs_are_mapped_in_order(backend):
    async with CommandPool(ExecutionConfig(concurrency_limit=3), executor=backend) as pool:
        codes = [result.returncode async for result in pool.map(sh(f"exit {code}") for code in range(20))]
    assert codes == list(range(20))


async def test_programs_that_fail_are_error_items(backend):
    commands = [CommandConfig(name, check=True) for name in ("true", "false", "/no/such/program")]
    async with CommandPool(ExecutionConfig(concurrency_limit=3), executor=backend) as pool:
        items = [item async for item in pool.map(commands, return_errors=True)]
    assert [type(item).__name__ for item in items] == ["CommandResult", "NonZeroExit", "IoError"]


async def test_programs_are_dead_when_the_iteration_is_left(backend, ready):
    async with CommandPool(ExecutionConfig(concurrency_limit=2), executor=backend) as pool:
        with returns_before_programs_end():
            async with aclosing(
                pool.map([CommandConfig("true"), *[helper("sleep_after_ready", ready.path)] * 5])
            ) as all_:
                assert (await anext(all_)).ok
                pids = await ready.pids(2)
        assert all(map(is_gone, pids))
        assert_all_settled(pool)


async def test_programs_are_dead_when_the_consumer_is_cancelled(backend, ready):
    async with CommandPool(ExecutionConfig(concurrency_limit=2), executor=backend) as pool:
        consumer = asyncio.create_task(names_of(pool.map([helper("ignore_sigterm", ready.path, grace=0.1)] * 5)))
        pids = await ready.pids(2)
        consumer.cancel()
        with returns_before_programs_end():
            assert isinstance(await outcome(consumer), asyncio.CancelledError)
        assert all(map(is_gone, pids))
        assert_all_settled(pool)
