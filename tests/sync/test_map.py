"""`CommandPool.map` of the facade: order, bounds, sources, and what is left when the iteration is left."""

import asyncio
import itertools
import threading
from contextlib import closing

import pytest
from contract.support import helper, is_gone, returns_before_programs_end, sh

from aiocmdpool import CommandConfig, ConfigError, ExecuteError, ExecutionConfig, NonZeroExit, PoolClosed, sync

from .support import waits_for

pytestmark = pytest.mark.slow


@pytest.fixture
def pool(own_background):
    with sync.CommandPool(ExecutionConfig(concurrency_limit=2, workers=1)) as pool:
        yield pool


def echoes(numbers):
    return (CommandConfig("echo", [str(number)]) for number in numbers)


def said(results):
    return [int(result.stdout) for result in results]


@pytest.mark.parametrize("ordered", [True, False])
def test_every_command_gives_one_result(pool, ordered):
    given = said(pool.map(echoes(range(30)), ordered=ordered))
    assert given == list(range(30)) if ordered else sorted(given) == list(range(30))
    assert pool.statistics().completed == 30


def test_results_as_they_complete_do_not_wait_for_the_slow(pool, ready, release):
    results = pool.map([waits_for(ready, release), *echoes([1])], ordered=False)
    assert next(results).stdout == b"1\n"
    release.send()
    assert [result.stdout for result in results] == [b"go\n"]


def test_an_endless_source_is_read_as_it_is_needed_and_in_the_thread_that_iterates(pool):
    taken = []

    def source():
        for number in itertools.count():
            taken.append(threading.get_ident())
            yield CommandConfig("echo", [str(number)])

    with closing(pool.map(source(), in_flight=3)) as results:
        assert said(itertools.islice(results, 5)) == list(range(5))
    assert set(taken) == {threading.get_ident()}
    assert len(taken) <= 8


def test_a_source_may_use_the_facade_itself(pool):
    source = (CommandConfig("echo", [sync.run("echo", str(n)).text().strip()]) for n in range(5))
    assert said(pool.map(source)) == list(range(5))


@pytest.mark.parametrize("leave", ["break", "close", "error"])
def test_leaving_cancels_what_is_in_flight(pool, ready, leave):
    commands = [CommandConfig("true"), *[helper("ignore_sigterm", ready.path, grace=0.05)] * 2]
    with returns_before_programs_end():
        if leave == "break":
            for _ in pool.map(commands, in_flight=3):
                pids = [int(ready.wait_blocking()) for _ in range(2)]
                break
        elif leave == "close":
            results = pool.map(commands, in_flight=3)
            next(results)
            pids = [int(ready.wait_blocking()) for _ in range(2)]
            results.close()
        else:
            # The third is not started while two run: it is withdrawn.
            failing = sh('read line < "$1"; exit 3', ready.path, check=True)
            pids = []
            ready.send()
            with pytest.raises(NonZeroExit):
                list(pool.map([failing, CommandConfig("sleep", ["60"]), CommandConfig("true")], in_flight=3))
    assert all(map(is_gone, pids))
    now = pool.statistics()
    assert (now.queued, now.running) == (0, 0)


def test_errors_are_results_when_asked_for(pool):
    commands = [CommandConfig("true"), CommandConfig("false", check=True), CommandConfig("true")]
    given = list(pool.map(commands, return_errors=True))
    assert [isinstance(each, NonZeroExit) for each in given] == [False, True, False]


def test_what_a_source_raises_arrives(pool):
    def source():
        yield from echoes([1])
        raise ZeroDivisionError

    results = pool.map(source())
    with pytest.raises(ZeroDivisionError):
        list(results)


def test_a_pool_that_is_stopped_ends_an_endless_map(pool):
    results = pool.map(echoes(itertools.count()), return_errors=True)
    next(results)
    pool.stop(drain=False)
    with pytest.raises(PoolClosed):
        list(results)


@pytest.mark.one_loop
async def test_a_map_is_checked_at_once_and_never_blocks_a_loop():
    pool = sync.CommandPool()
    with pytest.raises(ConfigError):
        pool.map([], in_flight=0)
    await asyncio.to_thread(pool.start_executor)
    with pytest.raises(ExecuteError, match="would block"):
        next(pool.map(echoes([1])))
    await asyncio.to_thread(pool.stop)
    with pytest.raises(PoolClosed):
        await asyncio.to_thread(list, pool.map(echoes([1])))
