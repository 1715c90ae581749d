"""`TaskHandle` of the facade: waiting with and without an end, from many threads, and callbacks."""

import threading

import pytest
from contract.support import helper, is_gone

from aiocmdpool import (
    CommandConfig,
    CommandTimeout,
    ExecuteError,
    ExecutionConfig,
    NonZeroExit,
    TaskCancelled,
    TaskStatus,
    sync,
)

from .support import PATIENCE, outcome_of, waits_for

pytestmark = pytest.mark.slow


@pytest.fixture
def pool(own_background):
    with sync.CommandPool(ExecutionConfig(concurrency_limit=1, workers=1)) as pool:
        yield pool


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_result_that_does_not_come_in_time_leaves_the_task_alone(pool, ready, release, timeout):
    handle = pool.push_task(waits_for(ready, release))
    ready.wait_blocking()
    for wait in (handle.result, handle.exception):
        with pytest.raises(TimeoutError, match=r"not settled within 0(\.01)? s; the task goes on \(running\)") as late:
            wait(timeout)
        assert not isinstance(late.value, ExecuteError)
    release.send()
    assert handle.result(PATIENCE).stdout == b"go\n"
    assert handle.result(0) is handle.result()


def test_the_timeout_of_a_command_is_an_outcome(pool):
    handle = pool.push_task(CommandConfig("sleep", ["60"], timeout=0.01))
    with pytest.raises(CommandTimeout):
        handle.result(PATIENCE)
    assert handle.status is TaskStatus.FAILED


def test_an_error_raised_again_does_not_grow(pool):
    handle = pool.push_task(CommandConfig("false", check=True))
    depths = []
    for _ in range(3):
        with pytest.raises(NonZeroExit) as failed:
            handle.result()
        depths.append(len(failed.traceback))
    assert len(set(depths)) == 1
    assert handle.exception() is failed.value


def test_many_threads_wait_for_one_task(pool, ready, release, threads):
    handle = pool.push_task(waits_for(ready, release))
    futures = [threads(handle.result, seconds) for seconds in (None, PATIENCE, None)]
    ready.wait_blocking()
    release.send()
    assert {id(outcome_of(future)) for future in futures} == {id(handle.result())}


def test_cancel_ends_what_runs_and_withdraws_what_waits(pool, ready):
    running = pool.push_task(helper("ignore_sigterm", ready.path, grace=0.05))
    waiting = pool.push_task(CommandConfig("true"))
    pid = int(ready.wait_blocking())
    assert waiting.cancel()
    assert waiting.cancelled()
    assert running.cancel()
    with pytest.raises(TaskCancelled) as cancelled:
        running.result()
    assert cancelled.value.result.stdout == b"stubborn"
    assert is_gone(pid)
    assert not running.cancel()


def test_callbacks_are_told_with_the_outcome_at_hand(pool, ready, release):
    told = []
    done = threading.Event()

    def note(handle):
        told.append(handle.result().stdout)

    def refused(handle):
        with pytest.raises(ExecuteError, match="would block the event loop"):
            pool.execute(CommandConfig("true"))
        done.set()

    handle = pool.push_task(waits_for(ready, release))
    for _ in range(3):
        handle.add_done_callback(note)
    assert handle.remove_done_callback(note) == 3
    handle.add_done_callback(note)
    release.send()
    handle.result()
    handle.add_done_callback(refused)
    assert done.wait(PATIENCE)
    assert told == [b"go\n"]
