"""The loop of a pool is stopped and never closed, and its thread ends: whoever waits or asks is told."""

import asyncio
import subprocess
import sys
import threading
from typing import Any

import pytest
from contract.loops import LOOPS
from contract.support import HOST_DEADLINE, host_environment
from pool.support import PATIENCE

from aiocmdpool import CommandConfig, CommandPoolSeg, ExecutionConfig, PoolClosed
from aiocmdpool.observability.health import HealthState

pytestmark = pytest.mark.slow

STANDS_STILL = "stands still and its thread is gone"


class Executor:
    """Runs "quick" at once, and anything else for ever."""

    def __init__(self) -> None:
        self.began = threading.Event()

    async def execute(self, command: CommandConfig) -> Any:
        if command.program == "quick":
            raise ValueError("quick")
        self.began.set()
        await asyncio.Event().wait()


class Served:
    """A pool whose loop runs in a thread of its own, until `stand_still`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.executor = Executor()
        self.pool = CommandPoolSeg(ExecutionConfig(concurrency_limit=1), executor=self.executor)
        self.run_in_a_thread()
        self.on_loop(self.pool.start_executor())

    def run_in_a_thread(self) -> None:
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def on_loop(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)

    def stand_still(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    def close(self) -> None:
        self.loop.run_until_complete(self.pool.stop(drain=False))
        self.loop.close()


@pytest.fixture(params=list(LOOPS))
def served(request):
    served = Served(LOOPS[request.param]())
    yield served
    if served.thread.is_alive():
        served.stand_still()
    served.close()


def held_task(served):
    handle = served.pool.push_task(CommandConfig("held"))
    assert served.executor.began.wait(PATIENCE)
    return handle


def test_a_thread_that_waits_is_told(served):
    running, pending = held_task(served), served.pool.push_task(CommandConfig("pending"))
    errors = []

    def wait() -> None:
        try:
            running.result()
        except PoolClosed as error:
            errors.append(error)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    while not running._listeners:
        waiting.join(0.001)
    served.stand_still()
    waiting.join(PATIENCE)
    assert [STANDS_STILL in str(error) for error in errors] == [True]
    with pytest.raises(PoolClosed, match=STANDS_STILL):
        pending.exception(PATIENCE)


def test_the_pool_says_so_and_takes_no_tasks(served):
    held_task(served)
    assert served.pool.is_running()
    assert served.pool.health().state is HealthState.HEALTHY
    served.stand_still()
    other = threading.Event()
    reuses_the_number = threading.Thread(target=other.wait)
    reuses_the_number.start()
    try:
        health = served.pool.health()
        assert health.state is HealthState.UNHEALTHY
        assert STANDS_STILL in health.reasons[0]
        assert not served.pool.is_running()
        with pytest.raises(PoolClosed, match=STANDS_STILL):
            served.pool.push_task(CommandConfig("late"))
        with pytest.raises(PoolClosed, match=STANDS_STILL):
            served.pool.push_tasks([CommandConfig("late")])
    finally:
        other.set()
        reuses_the_number.join()


@pytest.mark.parametrize("loop", list(LOOPS))
def test_coroutines_of_another_loop_are_told(served, loop):
    handle = held_task(served)

    async def wait_in_three_ways():
        cancelled = asyncio.ensure_future(handle.result_or_cancel())
        others = [asyncio.ensure_future(each) for each in (handle.result_or_cancel(), handle.wait_settled())]
        while len(handle._listeners or ()) < 3:
            await asyncio.sleep(0)
        served.stand_still()
        cancelled.cancel()
        async with asyncio.timeout(PATIENCE):
            return await asyncio.gather(cancelled, *others, return_exceptions=True)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        cancelled, *others = runner.run(wait_in_three_ways())
    assert isinstance(cancelled, asyncio.CancelledError)
    assert [type(error) for error in others] == [PoolClosed, PoolClosed]


def test_an_outcome_of_before_is_still_there(served):
    handle = served.pool.push_task(CommandConfig("quick"))
    assert isinstance(handle.exception(PATIENCE), ValueError)
    served.stand_still()
    assert isinstance(handle.exception(PATIENCE), ValueError)


def test_a_loop_that_runs_again_goes_on(served):
    held = held_task(served)
    pending = served.pool.push_task(CommandConfig("quick"))
    served.stand_still()
    with pytest.raises(PoolClosed):
        pending.exception(PATIENCE)  # and so it is cancelled
    served.run_in_a_thread()
    held.cancel()
    assert isinstance(served.pool.push_task(CommandConfig("quick")).exception(PATIENCE), ValueError)
    assert served.pool.health().state is HealthState.HEALTHY


MAIN_ENDS = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from contract.loops import LOOPS
from pool.support import HeldExecutor
from aiocmdpool import CommandConfig, CommandPoolSeg, PoolClosed

def wait(handle):
    try:
        handle.result()
    except PoolClosed as error:
        print(error, flush=True)

loop = LOOPS[sys.argv[1]]()
pool = CommandPoolSeg(executor=HeldExecutor())
loop.run_until_complete(pool.start_executor())
handle = pool.push_task(CommandConfig("held"))
if sys.argv[2] == "thread":
    threading.Thread(target=wait, args=[handle]).start()
else:
    ThreadPoolExecutor().submit(wait, handle)
"""


@pytest.mark.parametrize("loop", list(LOOPS))
@pytest.mark.parametrize("waiter", ["thread", "executor"])
def test_threads_that_the_exit_of_the_interpreter_waits_for_are_told(loop, waiter):
    """The loop is that of the main thread, which has come to its end."""
    host = [sys.executable, "-c", MAIN_ENDS, loop, waiter]
    done = subprocess.run(host, env=host_environment(), capture_output=True, text=True, timeout=HOST_DEADLINE)
    assert (done.returncode, STANDS_STILL in done.stdout) == (0, True), done.stderr
