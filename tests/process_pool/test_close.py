"""Closing a pool: with and without what is in flight, at once and again, hurried, and with workers that do not help."""

import asyncio
import contextlib
import os
import signal

import pytest
from contract.support import assert_dead, helper, is_gone

from aiocmdpool.backends.workers import crew
from aiocmdpool.backends.workers import process as program_module
from aiocmdpool.backends.workers import worker as worker_module
from aiocmdpool.backends.workers.process_pool import ProcessPool
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ExecuteError, PoolClosed, TaskCancelled, WorkerLost
from aiocmdpool.commands.result import CommandResult, EndReason

from .support import PATIENCE, hold, in_background, outcome, pairs, sh, until

pytestmark = pytest.mark.slow


async def test_closing_ends_what_is_in_flight_and_tells_why(new_pool, ready, release):
    pool = new_pool(2)
    running = in_background(pool, *[hold(ready, release)] * 4)
    held = await pairs(ready, 4)
    workers = pool.statistics().pids
    await pool.aclose()
    assert all(map(is_gone, (*workers, *(pid for pid, _ in held))))
    for end in running:
        error = await end
        assert isinstance(error, TaskCancelled)
        assert error.end_reason is EndReason.CLOSED
        assert error.result.returncode == -signal.SIGTERM
        assert "closed" in str(error)
    assert pool.statistics().workers == 0
    assert pool.statistics().lost == 0


async def test_draining_lets_what_is_in_flight_come_to_its_end(new_pool, ready, release):
    pool = new_pool(2)
    running = in_background(pool, *[hold(ready, release)] * 4)
    held = await pairs(ready, 4)
    closing = asyncio.ensure_future(pool.aclose(drain=True))
    await asyncio.sleep(0)
    with pytest.raises(PoolClosed):
        await pool.execute(CommandConfig("true"))
    done, _ = await asyncio.wait([closing], timeout=0.1)
    assert not done
    assert not any(end.done() for end in running)
    for _ in running:
        release.send()
    assert {(await end).stdout for end in running} == {b"held\n"}
    await asyncio.wait_for(closing, PATIENCE)
    assert all(map(is_gone, {worker for _, worker in held}))


async def test_draining_waits_for_large_output(new_pool, ready, release):
    pool = new_pool(1)
    script = 'echo >"$1"; read x <"$2"; head -c 65000 /dev/zero; head -c 300000 /dev/zero >&2'
    running = in_background(pool, *[sh(script, ready.path, release.path)] * 5)
    for _ in running:
        await ready.wait()
    closing = asyncio.ensure_future(pool.aclose(drain=True))
    await asyncio.sleep(0)
    for _ in running:
        release.send()
    await asyncio.wait_for(closing, PATIENCE)
    for end in running:
        result = await end
        assert (len(result.stdout), len(result.stderr)) == (65_000, 300_000)


async def test_a_closed_pool_takes_nothing(new_pool):
    pool = new_pool(1)
    await pool.execute(CommandConfig("true"))
    await pool.aclose()
    for start in (pool.execute(CommandConfig("true")), pool.start()):
        with pytest.raises(PoolClosed, match="closed"):
            await start
    assert pool.statistics().workers == 0


async def test_closing_is_harmless_when_repeated_or_when_nothing_was_started(new_pool):
    unused = new_pool(2)
    await unused.aclose()
    await unused.aclose(drain=True)
    pool = new_pool(1)
    await pool.start()
    await pool.aclose()
    await pool.aclose()


async def test_leaving_a_pool_by_an_error_closes_it(ready, release):
    pool = ProcessPool(1)
    stack = contextlib.AsyncExitStack()
    await stack.enter_async_context(pool)
    [running] = in_background(pool, hold(ready, release))
    [(pid, worker)] = await pairs(ready, 1)
    error = ZeroDivisionError()
    assert not await stack.__aexit__(type(error), error, None)
    assert is_gone(worker)
    assert is_gone(pid)
    assert isinstance(await running, TaskCancelled)


async def test_closing_many_times_at_once(new_pool, ready, release):
    pool = new_pool(2)
    running = in_background(pool, *[hold(ready, release)] * 3)
    await pairs(ready, 3)
    workers = pool.statistics().pids
    draining = asyncio.ensure_future(pool.aclose(drain=True))
    await asyncio.sleep(0)
    assert not any(end.done() for end in running)
    await asyncio.wait_for(asyncio.gather(pool.aclose(), pool.aclose(), pool.aclose(drain=True)), PATIENCE)
    assert draining.done()
    assert all(map(is_gone, workers))
    assert {type(await end) for end in running} == {TaskCancelled}


async def test_a_drain_that_is_cancelled_ends_what_is_in_flight_and_then_leaves(new_pool, ready, release):
    pool = new_pool(2)
    running = in_background(pool, *[hold(ready, release)] * 3)
    held = await pairs(ready, 3)
    closing = asyncio.ensure_future(pool.aclose(drain=True))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(closing, PATIENCE)
    assert all(map(is_gone, (*(pid for pid, _ in held), *(worker for _, worker in held))))
    assert {type(await end) for end in running} == {TaskCancelled}


async def test_a_close_that_is_cancelled_again_and_again_leaves_nothing(new_pool, ready):
    pool = new_pool(1)
    running = in_background(pool, helper("ignore_sigterm", ready.path, grace=0.2))
    pid = int(await ready.wait())
    workers = pool.statistics().pids
    closing = asyncio.ensure_future(pool.aclose())
    await asyncio.sleep(0)
    while not closing.done():
        closing.cancel()
        await asyncio.sleep(0.01)
    assert closing.cancelled()
    assert is_gone(pid)
    assert all(map(is_gone, workers))
    assert isinstance(await running[0], TaskCancelled)


async def test_closing_kills_what_ignores_term_after_its_grace(new_pool, ready):
    pool = new_pool(2)
    running = in_background(pool, *[helper("ignore_sigterm", ready.path, grace=0.1)] * 3)
    pids = await ready.pids(3)
    await asyncio.wait_for(pool.aclose(), PATIENCE)
    assert all(map(is_gone, pids))
    assert [(await end).result.returncode for end in running] == [-signal.SIGKILL] * 3


async def test_closing_takes_escapees_along(new_pool, ready):
    pool = new_pool(1)
    running = in_background(pool, helper("double_fork", ready.path, "stay", "session"))
    pids = await ready.pids(2)
    await pool.aclose()
    await assert_dead(*pids)
    assert isinstance(await running[0], TaskCancelled)


# -- workers that do not help ----


@pytest.mark.one_loop("asyncio", "uvloop")
async def test_an_idle_worker_that_is_stopped_is_killed(new_pool, monkeypatch):
    monkeypatch.setattr(worker_module, "CLOSE_TIMEOUT", 0.2)
    pool = new_pool(2)
    await asyncio.gather(*(pool.execute(CommandConfig("true")) for _ in range(4)))
    workers = pool.statistics().pids
    os.kill(workers[0], signal.SIGSTOP)
    await asyncio.wait_for(pool.aclose(), PATIENCE)
    assert all(map(is_gone, workers))


@pytest.mark.parametrize("drain", [False, True])
async def test_a_busy_worker_that_is_stopped_is_killed_with_what_it_runs(new_pool, ready, release, quick_beats, drain):
    pool = new_pool(1, hang_after=1.5)  # for a worker that starts has to answer in that time, too
    running = in_background(pool, *[hold(ready, release)] * 3)
    held = await pairs(ready, 3)
    os.kill(held[0][1], signal.SIGSTOP)
    await asyncio.wait_for(pool.aclose(drain=drain), PATIENCE)
    assert {type(await end) for end in running} <= {WorkerLost, TaskCancelled}
    await assert_dead(*(pid for pid, _ in held))
    assert is_gone(held[0][1])


async def test_a_worker_that_dies_while_it_is_closed_is_no_trouble(new_pool, ready, release):
    pool = new_pool(1)
    running = in_background(pool, *[hold(ready, release)] * 2)
    held = await pairs(ready, 2)
    closing = asyncio.ensure_future(pool.aclose(drain=True))
    await asyncio.sleep(0)
    os.kill(held[0][1], signal.SIGKILL)
    await asyncio.wait_for(closing, PATIENCE)
    assert {type(await end) for end in running} == {WorkerLost}
    await assert_dead(*(pid for pid, _ in held))


# -- what has not started ----


async def test_commands_that_wait_in_a_worker_are_told_that_the_pool_was_closed(new_pool):
    pool = new_pool(1)
    await pool.execute(CommandConfig("true"))
    running = in_background(pool, *[CommandConfig("sleep", ["60"])] * 200)
    await until(lambda: any(entry.started_pid for entry in pool._workers[0]._pending.values()))
    await asyncio.wait_for(pool.aclose(), PATIENCE)
    for end in running:
        error = await end
        assert isinstance(error, TaskCancelled), error
        assert error.end_reason is EndReason.CLOSED


async def test_commands_that_have_not_left_this_process_are_told_as_well(new_pool, tmp_path):
    pool = new_pool(1)
    await pool.execute(CommandConfig("true"))
    running = in_background(pool, *[sh('echo x >>"$1"', tmp_path / "log")] * 50)
    await asyncio.sleep(0)
    await pool.aclose()
    assert {type(await end) for end in running} == {TaskCancelled}
    assert not (tmp_path / "log").exists()


async def test_commands_that_wait_for_room_in_a_stopped_worker_are_told_as_well(new_pool, quick_beats):
    pool = new_pool(1, hang_after=1.5)  # for a worker that starts has to answer in that time, too
    await pool.execute(CommandConfig("true"))
    os.kill(pool.statistics().pids[0], signal.SIGSTOP)
    running = in_background(pool, *[CommandConfig("echo", ["x" * 2000])] * 1000)
    await asyncio.sleep(0.01)
    await asyncio.wait_for(pool.aclose(), PATIENCE)
    kinds = {type(await end) for end in running}
    assert kinds <= {TaskCancelled, WorkerLost}
    assert TaskCancelled in kinds


async def test_commands_that_wait_for_a_worker_are_told_as_well(new_pool, monkeypatch):
    monkeypatch.setattr(program_module, "FOLDER", "/no/such/folder")
    monkeypatch.setattr(crew, "BACK_OFF", 30.0)
    pool = new_pool(1)
    running = in_background(pool, *[CommandConfig("true")] * 5)
    await until(lambda: len(pool._crew._waiters) == 5)
    await pool.aclose()
    for end in running:
        error = await end
        assert isinstance(error, ExecuteError)
        assert error.end_reason is EndReason.CLOSED


@pytest.mark.parametrize("drain", [False, True])
async def test_a_command_that_ends_while_the_pool_is_closed_starts_no_worker(new_pool, monkeypatch, drain):
    """Its worker is due for replacement in that moment."""
    pool = new_pool(1, recycle_after=1)
    closing: list[asyncio.Future[None]] = []
    resolve = worker_module.Pending.resolve

    def close_and_resolve(entry: worker_module.Pending, answer: object) -> None:
        closing.append(asyncio.ensure_future(pool.aclose(drain=drain)))  # runs before the command hears of its end
        resolve(entry, answer)

    monkeypatch.setattr(worker_module.Pending, "resolve", close_and_resolve)
    end = await outcome(pool.execute(CommandConfig("true")))
    assert end.returncode == 0
    await asyncio.gather(*closing)
    assert pool.statistics().workers == 0


async def test_closing_while_workers_start(new_pool):
    pool = new_pool(3)
    running = in_background(pool, *[CommandConfig("true")] * 3)
    await asyncio.sleep(0)
    pids = pool.statistics().pids
    assert len(pids) == 3
    await asyncio.wait_for(pool.aclose(), PATIENCE)
    # A worker may be up, and done, while the others are being started.
    assert {type(await end) for end in running} <= {TaskCancelled, CommandResult}
    assert all(map(is_gone, pids))
