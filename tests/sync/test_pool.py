"""`CommandPool` and `ProcessPool` of the facade."""

import asyncio
import inspect
import threading

import pytest
from contract.support import is_gone

import aiocmdpool
from aiocmdpool import (
    CommandConfig,
    ExecuteError,
    ExecutionConfig,
    ExecutionMode,
    PoolClosed,
    QueueFull,
    TaskStatus,
    sync,
)
from aiocmdpool.asyncio_api.api import AsyncioSubprocesses
from aiocmdpool.sync import on_loop

from .support import PATIENCE, outcome_of, waits_for

pytestmark = pytest.mark.slow

ONE = ExecutionConfig(concurrency_limit=1, workers=1)
TRUE = CommandConfig("true")


def public(kind):
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize("name", ["CommandPool", "ProcessPool", "TaskHandle"])
def test_the_names_and_arguments_are_those_of_the_async_class(name):
    ours, theirs = getattr(sync, name), getattr(aiocmdpool, name)
    renamed = {"aclose": "close"}
    # What belongs to a loop, and to the pool that a handle is of (as does `control` below).
    missing = {renamed.get(each, each) for each in public(theirs) - public(AsyncioSubprocesses)} - public(ours)
    theirs_alone = {"cancellation", "control", "settle", "started_at", "pushed_at", "wait_settled", "result_or_cancel"}
    assert missing <= {"open"} | theirs_alone
    for method in public(ours) & public(theirs):
        if inspect.isfunction(getattr(theirs, method)) and method not in ("result", "exception"):
            parameters = [inspect.signature(getattr(kind, method)).parameters for kind in (ours, theirs)]
            assert list(parameters[0]) == [each for each in parameters[1] if each != "control"], method
    if name != "TaskHandle":
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)


@pytest.mark.parametrize("mode", ["PROCESS", "PROCESS_POOL"])
def test_a_pool_runs_commands(mode):
    with sync.CommandPool(ExecutionConfig(mode=ExecutionMode[mode], concurrency_limit=2)) as pool:
        assert pool.execute(CommandConfig("echo", ["hello"])).stdout == b"hello\n"
        handles = pool.push_tasks([TRUE] * 3) + pool.try_push_tasks([TRUE] * 3) + [pool.push_task(TRUE)]
        assert [handle.result().returncode for handle in handles] == [0] * 7
        assert pool.statistics().completed == 8
        assert pool.tracker.counts()[TaskStatus.COMPLETED] == len(pool.tracker) == 8
        assert pool.tracker.get(handles[0].id) is TaskStatus.COMPLETED
    assert pool.is_stopped()
    with pytest.raises(PoolClosed):
        pool.execute(TRUE)


def test_a_queue_that_is_full_says_so_or_lets_wait(ready, release, threads):
    with sync.CommandPool(ONE, max_size=1) as pool:
        running = pool.push_task(waits_for(ready, release))
        ready.wait_blocking()
        pool.push_task(TRUE)
        with pytest.raises(QueueFull):
            pool.try_push_task(TRUE)
        waiting = threads(pool.push_task, TRUE)
        release.send()
        assert outcome_of(waiting).result().returncode == 0
        assert running.result().stdout == b"go\n"


def test_tasks_may_be_pushed_before_the_start_and_taken_back():
    pool = sync.CommandPool(ONE)
    handles = pool.push_tasks([TRUE, TRUE, TRUE])
    assert (pool.pop_task(), len(pool), bool(pool)) == (TRUE, 2, True)
    assert pool.clear() == 2
    assert all(handle.cancelled() for handle in handles)
    pool.stop()


USES = {
    "execute": lambda pool: [pool.execute(TRUE)],
    "result": lambda pool: [pool.push_task(TRUE).result()],
    "result in time": lambda pool: [pool.try_push_task(TRUE).result(PATIENCE)],
    "exception": lambda pool: [pool.push_task(TRUE)] if pool.push_task(TRUE).exception() is None else [],
    "map": lambda pool: list(pool.map([TRUE])),
}


@pytest.mark.parametrize("use", list(USES))
@pytest.mark.parametrize("kind", ["CommandPool", "CommandPoolSeg"])
def test_a_pool_starts_when_somebody_needs_it(kind, use):
    pool = getattr(sync, kind)(ONE)
    if kind == "CommandPoolSeg" and ("map" in use or "in time" in use):
        pytest.skip("it has none")
    assert len(USES[use](pool)) == 1
    pool.stop()
    with pytest.raises(PoolClosed):
        pool.execute(TRUE)


def test_what_is_pushed_is_run_also_if_nobody_ever_waits_for_it(monkeypatch):
    monkeypatch.setattr(on_loop, "START_SOON", 0.01)
    pool = sync.CommandPool(ONE, max_size=1)
    done = threading.Event()
    pool.push_task(TRUE).add_done_callback(lambda _: done.set())
    assert done.wait(PATIENCE)
    for _ in range(3):  # whoever waits for room gets it
        pool.push_task(TRUE)
    pool.stop()
    assert pool.statistics().completed == 4


def test_a_pool_that_is_stopped_before_it_starts_by_itself_stays_that_way(monkeypatch):
    monkeypatch.setattr(on_loop, "START_SOON", 0.01)
    pool = sync.CommandPool(ONE)
    handle = pool.push_task(TRUE)
    pool.stop()
    assert handle.cancelled() or handle.result().ok
    with pytest.raises(PoolClosed):
        pool.push_task(TRUE)


def test_leaving_by_an_exception_ends_what_runs(ready):
    command = CommandConfig("sh", ["-c", 'echo $$ > "$1"; sleep 60 & wait', "sh", ready.path], grace=0.05)
    handles, pids = [], []

    def use_pool():
        with sync.CommandPool(ONE) as pool:
            handles.append(pool.push_task(command))
            pids.append(int(ready.wait_blocking()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use_pool()
    [handle], [pid] = handles, pids
    assert handle.cancelled()
    assert is_gone(pid)


def test_many_threads_share_a_pool(threads):
    with sync.CommandPool(ExecutionConfig(concurrency_limit=4), max_size=2) as pool:

        def work(number):
            return [pool.execute(CommandConfig("echo", [f"{number}.{turn}"])).text().strip() for turn in range(5)]

        futures = [threads(work, number) for number in range(8)]
        assert [outcome_of(f) for f in futures] == [[f"{n}.{t}" for t in range(5)] for n in range(8)]
        assert pool.statistics().completed == 40


def test_a_pool_that_is_forgotten_is_closed_and_complained_about():
    pool = sync.CommandPool(ONE)
    pool.start_executor()
    assert pool.execute(TRUE).returncode == 0
    [worker] = pool.worker_statistics().pids
    with pytest.warns(ResourceWarning, match="CommandPool was not closed"):
        del pool
    sync.shutdown()  # which waits for that
    assert is_gone(worker)


def test_a_handle_keeps_its_pool(ready, release):
    pool = sync.CommandPool(ONE)
    pool.start_executor()
    handle = pool.push_task(waits_for(ready, release))
    ready.wait_blocking()
    del pool
    release.send()
    assert handle.result().stdout == b"go\n"
    with pytest.warns(ResourceWarning):
        del handle


def test_a_process_pool_runs_commands():
    with sync.ProcessPool(1) as pool:
        assert pool.execute(CommandConfig("echo", ["hello"])).stdout == b"hello\n"
        statistics = pool.statistics()
        assert (pool.size, statistics.workers, statistics.completed) == (1, 1, 1)
    pool.close()
    assert all(map(is_gone, statistics.pids))
    with pytest.raises(PoolClosed):
        pool.execute(TRUE)


def test_a_process_pool_drains_when_asked(ready, release, threads):
    pool = sync.ProcessPool(1)
    running = threads(pool.execute, waits_for(ready, release))
    ready.wait_blocking()
    closing = threads(pool.close, drain=True)
    release.send()
    assert outcome_of(running).stdout == b"go\n"
    assert outcome_of(closing) is None


@pytest.mark.one_loop
async def test_a_pool_refuses_to_block_a_loop():
    pool = sync.CommandPool(ONE)
    for call in (pool.start_executor, lambda: pool.push_task(TRUE), lambda: pool.try_push_task(TRUE), pool.stop):
        with pytest.raises(ExecuteError, match=r"use aiocmdpool\.CommandPool with await"):
            call()
    assert len(pool) == 0


def test_a_stop_that_drains_runs_what_nobody_has_waited_for(tmp_path):
    for number, make in enumerate((sync.CommandPool, sync.CommandPoolSeg)):
        pool = make(ONE)
        handle = pool.push_task(CommandConfig("touch", [str(tmp_path / str(number))]))
        pool.stop()
        assert handle.result().ok


def test_what_is_pushed_to_either_pool_is_run_although_nobody_waits(tmp_path, monkeypatch):
    monkeypatch.setattr(on_loop, "START_SOON", 0.01)
    for make in (sync.CommandPool, sync.CommandPoolSeg):
        ended = threading.Event()
        with_callback = make(ONE)
        handle = with_callback.push_task(TRUE)
        handle.add_done_callback(lambda _, ended=ended: ended.set())
        assert ended.wait(PATIENCE)
        with_callback.stop()


def test_a_task_is_cancelled_from_a_loop_of_the_callers(threads):
    async def main():
        waiting = asyncio.ensure_future(handle.result_or_cancel())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert handle.cancelled()

    with sync.CommandPool(ONE) as pool:
        handle = pool.push_task(CommandConfig("sleep", ["60"]))
        asyncio.run(main())


@pytest.mark.parametrize("make", [sync.CommandPool, sync.CommandPoolSeg])
def test_hooks_that_are_no_list_are_refused_where_they_are_given(make):
    with pytest.raises(aiocmdpool.ConfigError, match=r"hooks: .* is not a list of callables"):
        make(hooks=print)
