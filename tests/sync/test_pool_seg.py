"""`sync.CommandPoolSeg`: pushes from threads, a life without a loop."""

import asyncio
import gc
import threading
import time
import weakref

import pytest

from aiocmdpool import (
    CommandConfig,
    ExecutionConfig,
    ExecutionMode,
    PoolClosed,
    QueueFull,
    TaskCancelled,
    TaskStarted,
    TaskStatus,
    sync,
)
from aiocmdpool.observability.health import HealthState
from aiocmdpool.sync import on_loop

from .support import PATIENCE, waits_for

pytestmark = pytest.mark.slow

PROCESS = ExecutionConfig(mode=ExecutionMode.PROCESS)


def test_what_threads_push_is_run_and_heard_of():
    heard: dict[int, str] = {}
    with sync.CommandPoolSeg() as pool:

        def use(number: int) -> None:
            heard[number] = pool.push_task(CommandConfig("echo", [str(number)])).result(timeout=30).text()

        threads = [threading.Thread(target=use, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert pool.execute(CommandConfig("echo", ["blocking"])).text() == "blocking\n"
        assert pool.statistics().completed == 21
    assert heard == {number: f"{number}\n" for number in range(20)}


def test_it_is_filled_before_it_starts_and_says_when_it_is_full():
    pool = sync.CommandPoolSeg(max_size=3)
    handles = pool.push_tasks([CommandConfig("echo", [str(number)]) for number in range(3)])
    with pytest.raises(QueueFull):
        pool.push_task(CommandConfig("true"))
    assert len(pool) == 3
    pool.start_executor()
    assert [handle.result(timeout=30).text() for handle in handles] == ["0\n", "1\n", "2\n"]
    pool.stop()
    assert pool.is_stopped()
    with pytest.raises(PoolClosed):
        pool.push_task(CommandConfig("true"))


def test_an_exception_in_the_block_ends_what_runs():
    pool = sync.CommandPoolSeg()
    handle = pool.push_task(CommandConfig("sleep", ["60"]))

    def leave() -> None:
        with pool:
            raise KeyError

    with pytest.raises(KeyError):
        leave()
    assert handle.cancelled()


def test_threads_pop_and_clear_and_ask_for_the_state(threads, monkeypatch):
    monkeypatch.setattr(on_loop, "START_SOON", 60.0)  # not in the middle of this
    waiting = sync.CommandPoolSeg(PROCESS)
    waiting.push_tasks([CommandConfig(name) for name in "abc"])
    assert (threads(waiting.pop_task).result(30).program, waiting.is_empty(), waiting.is_running()) == (
        "a",
        False,
        False,
    )
    assert (waiting.clear(), waiting.is_empty()) == (2, True)
    waiting.stop()
    started = threading.Event()
    hooks = [lambda event: started.set() if isinstance(event, TaskStarted) else None]
    with sync.CommandPoolSeg(PROCESS.with_concurrency_limit(1), hooks=hooks) as pool:
        assert pool.is_running()
        first, *rest = pool.push_tasks([CommandConfig("sleep", ["60"], grace=0.1) for _ in range(5)])
        assert started.wait(30)
        assert threads(pool.pop_task).result(30) == rest[0].command
        assert threads(pool.clear).result(30) == 3
        assert pool.is_empty()
        first.cancel()
        assert {type(handle.exception(30)) for handle in rest} == {TaskCancelled}
    assert not pool.is_running()


def test_a_pool_says_whether_it_is_empty_and_whether_it_runs():
    pool = sync.CommandPool(PROCESS)
    assert (pool.is_empty(), pool.is_running()) == (True, False)
    with pool:
        assert (pool.is_empty(), pool.is_running()) == (True, True)
    assert not pool.is_running()


def test_notebooks_show_the_pools_of_the_facade():
    with sync.CommandPool(PROCESS) as pool, sync.CommandPoolSeg(PROCESS) as seg, sync.ProcessPool(1) as workers:
        assert all("<table>" in each._repr_html_() for each in (pool, seg, workers))


@pytest.mark.filterwarnings("ignore:.*was not closed:ResourceWarning")
@pytest.mark.parametrize("kind", [sync.CommandPool, sync.CommandPoolSeg])
def test_a_handle_keeps_its_pool(kind, ready, release):
    def push():
        pool = kind(PROCESS)
        return pool.push_task(waits_for(ready, release)), weakref.ref(pool)

    handle, pool = push()
    gc.collect()
    with pytest.raises(TimeoutError):
        handle.result(0)
    release.send()
    assert handle.result(PATIENCE).ok
    del handle
    give_up_at = time.monotonic() + PATIENCE
    while pool() is not None:
        assert time.monotonic() < give_up_at
        gc.collect()
        time.sleep(0.001)
    sync.shutdown()


def test_a_pool_is_read_on_a_loop_and_off_it():
    """What only reads blocks nobody: a health check of a web service asks on its loop."""

    async def read():
        return pool.statistics().completed, pool.health().state, pool.latencies().run.count, pool.max_size

    async def tracked():
        return pool.tracker.counts()[TaskStatus.COMPLETED], len(pool.tracker.all()), pool.worker_statistics()

    for kind in (sync.CommandPool, sync.CommandPoolSeg):
        with kind(ExecutionConfig(mode=ExecutionMode.PROCESS), max_size=7) as pool:
            assert pool.execute(CommandConfig("true")).ok
            assert asyncio.run(read()) == (1, HealthState.HEALTHY, 1, 7)
            assert asyncio.run(tracked()) == (1, 1, None)
            assert "completed" in pool._repr_html_()
