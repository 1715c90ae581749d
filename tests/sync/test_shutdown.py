"""`shutdown`, and a loop that ends by itself: everybody who waits is told, and the next use starts anew."""

import threading

import pytest
from contract.support import helper, is_gone

from aiocmdpool import CommandConfig, ExecuteError, ExecutionConfig, PoolClosed, TaskCancelled, sync

from .support import PATIENCE, outcome_of

pytestmark = pytest.mark.slow


def background_threads():
    return [thread for thread in threading.enumerate() if thread.name == "aiocmdpool-sync"]


def test_there_is_one_thread_from_the_first_use_on():
    pool = sync.CommandPool()
    assert background_threads() == []
    sync.run("true")
    [thread] = background_threads()
    assert thread.daemon
    with pool, sync.ProcessPool(1):
        assert background_threads() == [thread]


def test_shutdown_ends_everything_and_tells_those_who_wait(ready, threads):
    pool = sync.CommandPool(ExecutionConfig(concurrency_limit=3))
    pool.start_executor()
    command = helper("ignore_sigterm", ready.path, grace=0.05)
    handle = pool.push_task(command)
    waiting = [
        threads(sync.execute, command),
        threads(pool.execute, command),
        threads(handle.result),
        threads(list, pool.map([command])),
    ]
    pids = [int(ready.wait_blocking()) for _ in range(4)]
    sync.shutdown()
    assert all(map(is_gone, pids))
    assert background_threads() == []
    assert [type(outcome_of(future)) for future in waiting] == [TaskCancelled] * 4
    assert handle.cancelled()


def test_after_a_shutdown_old_pools_are_closed_and_new_ones_work():
    with sync.CommandPool() as pool:
        assert pool.execute(CommandConfig("true")).returncode == 0
        sync.shutdown()
        sync.shutdown()
        with pytest.raises(PoolClosed, match="was shut down, and this CommandPool with it"):
            pool.execute(CommandConfig("true"))
        assert pool.statistics().completed == 1
        assert sync.run("true").returncode == 0
    with sync.CommandPool() as pool:
        assert pool.execute(CommandConfig("true")).returncode == 0


def test_threads_that_come_and_go_meet_a_shutdown_at_any_moment(threads):
    start = threading.Barrier(5)

    def use():
        start.wait(PATIENCE)
        seen = []
        for _ in range(20):
            try:
                seen.append(sync.run("true").returncode)
            except (PoolClosed, TaskCancelled):
                seen.append(0)
        return seen

    futures = [threads(use) for _ in range(4)]
    start.wait(PATIENCE)
    for _ in range(10):
        sync.shutdown()
    assert [outcome_of(future) for future in futures] == [[0] * 20] * 4


class Fatal:
    """An executor that ends the loop it runs on."""

    async def execute(self, command):
        if command.program == "fatal":
            raise SystemExit
        raise AssertionError


def test_a_loop_that_is_ended_by_an_executor_takes_nobody_along(ready, threads):
    running = threads(sync.execute, helper("ignore_sigterm", ready.path, grace=0.05))
    pid = int(ready.wait_blocking())
    pool = sync.CommandPool(executor=Fatal())
    pool.start_executor()
    with pytest.raises((ExecuteError, SystemExit)):
        pool.execute(CommandConfig("fatal"))
    assert isinstance(outcome_of(running), TaskCancelled)
    assert is_gone(pid)
    assert sync.run("true").returncode == 0
