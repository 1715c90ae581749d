"""Workers that hang are noticed and replaced; a host that hangs itself does not take them for hung."""

import asyncio
import os
import signal
import time

import pytest
from contract.support import assert_dead, is_gone

from aiocmdpool.backends.workers import pending as pending_module
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import CommandTimeout, WorkerLost
from aiocmdpool.commands.result import EndReason

from .support import PATIENCE, hold, in_background, outcome, pairs, until

pytestmark = [pytest.mark.slow, pytest.mark.one_loop("asyncio", "uvloop")]  # debug mode shows nothing new here


@pytest.mark.one_loop
async def test_a_stopped_worker_is_noticed_within_the_time_that_was_set(new_pool, ready, release):
    pool = new_pool(2, hang_after=2.0)
    one, other = in_background(pool, *[hold(ready, release)] * 2)
    [pid, worker], [_, healthy] = await pairs(ready, 2)
    os.kill(worker, signal.SIGSTOP)
    stopped = time.monotonic()
    done, rest = await asyncio.wait([one, other], timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    assert 1.0 < time.monotonic() - stopped < 15.0
    [end], [running] = done, rest
    error = end.result()
    assert isinstance(error, WorkerLost)
    assert "hung" in str(error)
    assert "2 s" in str(error)
    await assert_dead(pid)
    assert is_gone(worker)
    release.send()
    assert (await running).stdout == b"held\n"
    assert healthy in pool.statistics().pids


async def test_everything_in_a_stopped_worker_is_settled_and_the_pool_works_on(new_pool, ready, release, quick_beats):
    pool = new_pool(1, hang_after=2.0)  # for the worker that comes after it has to start in that time
    running = in_background(pool, *[hold(ready, release)] * 20)
    held = await pairs(ready, 20)
    os.kill(held[0][1], signal.SIGSTOP)
    late = in_background(pool, *[CommandConfig("echo", ["late"])] * 5)
    again = in_background(pool, CommandConfig("echo", ["again"], idempotent=True))
    ends = await asyncio.wait_for(asyncio.gather(*running, *late), PATIENCE)
    assert {type(end) for end in ends} == {WorkerLost}
    await assert_dead(*(pid for pid, _ in held))
    assert (await again[0]).stdout == b"again\n"
    assert (await pool.execute(CommandConfig("echo", ["fine"]))).stdout == b"fine\n"
    assert pool.statistics().lost == 1


async def test_a_command_of_a_stopped_worker_can_be_cancelled(new_pool, ready, release, quick_beats):
    pool = new_pool(1, hang_after=2.0)  # for a worker that starts has to answer in that time, too
    [running] = in_background(pool, hold(ready, release))
    [(pid, worker)] = await pairs(ready, 1)
    os.kill(worker, signal.SIGSTOP)
    running.cancel()
    assert isinstance(await asyncio.wait_for(running, PATIENCE), asyncio.CancelledError)
    await assert_dead(pid)


async def test_a_worker_that_goes_on_in_time_is_kept(new_pool, ready, release, quick_beats):
    pool = new_pool(1, hang_after=5.0)
    [running] = in_background(pool, hold(ready, release))
    [(_, worker)] = await pairs(ready, 1)
    os.kill(worker, signal.SIGSTOP)
    await until(lambda: pool._workers[0]._heartbeat.silent_beats > 3)
    os.kill(worker, signal.SIGCONT)
    release.send()
    assert (await running).stdout == b"held\n"
    assert pool.statistics().pids == (worker,)


async def test_a_stopped_worker_without_work_is_left_alone_until_it_gets_some(new_pool, quick_beats):
    pool = new_pool(1, hang_after=2.0)  # for a worker that starts has to answer in that time, too
    await pool.execute(CommandConfig("true"))
    [worker] = pool.statistics().pids
    await until(lambda: pool._workers[0]._heartbeat.timer is None)  # nothing is asked of it any more
    await asyncio.sleep(0.3)  # a beat that was under way has been answered
    os.kill(worker, signal.SIGSTOP)
    await asyncio.sleep(3.0)  # longer than it would be given with work
    assert pool.statistics().lost == 0
    error = await asyncio.wait_for(outcome(pool.execute(CommandConfig("true"))), PATIENCE)
    assert isinstance(error, WorkerLost)
    assert (await pool.execute(CommandConfig("echo", ["fine"]))).stdout == b"fine\n"


async def block(seconds: float, where: str) -> None:
    """Keep the loop from turning: in a task, or in a callback of a reader, after which uvloop runs timers first."""
    if where == "task":
        time.sleep(seconds)
        await asyncio.sleep(0)
        return
    loop = asyncio.get_running_loop()
    blocked = loop.create_future()
    read_end, write_end = os.pipe()
    os.write(write_end, b"x")

    def sleep() -> None:
        loop.remove_reader(read_end)
        time.sleep(seconds)
        blocked.set_result(None)

    loop.add_reader(read_end, sleep)
    await blocked
    os.close(read_end)
    os.close(write_end)


wherever = pytest.mark.parametrize("where", ["task", "reader"])


@wherever
@pytest.mark.parametrize("blocks", [[2.5], [1.2] * 3], ids=["long", "often"])
async def test_a_blocked_host_does_not_take_its_workers_for_hung(new_pool, ready, release, quick_beats, blocks, where):
    pool = new_pool(2, hang_after=1.0)  # on a busy machine a worker may well be silent for a third of a second
    running = in_background(pool, *[hold(ready, release)] * 4)
    await pairs(ready, 4)
    workers = pool.statistics().pids
    for seconds in blocks:
        await block(seconds, where)
    await asyncio.sleep(0.2)  # some beats
    assert pool.statistics().pids == workers
    for _ in running:
        release.send()
    assert {(await end).stdout for end in running} == {b"held\n"}
    assert pool.statistics().lost == 0


@wherever
async def test_a_host_that_slept_over_a_deadline_does_not_blame_the_worker(
    new_pool, ready, release, quick_beats, monkeypatch, where
):
    """The worker has kept it, and has said so; nobody has read that yet."""
    monkeypatch.setattr(pending_module, "OVERDUE_AFTER", 0.2)
    monkeypatch.setattr(pending_module, "UNKILLABLE_AFTER", 0.0)
    pool = new_pool(1)
    running = in_background(pool, hold(ready, release), CommandConfig("sleep", ["60"], timeout=0.1, grace=0.1))
    await pairs(ready, 1)
    worker = pool._workers[0]
    await until(lambda: all(entry.started_pid for entry in worker._pending.values()))
    await block(0.8, where)
    assert isinstance(await running[1], CommandTimeout)
    await asyncio.sleep(0.2)  # some beats
    release.send()
    assert (await running[0]).stdout == b"held\n"
    assert pool.statistics().lost == 0


@pytest.mark.one_loop("asyncio", "uvloop")
@pytest.mark.parametrize("options", [{}, {"umask": 0o77}], ids=["spawned", "forked"])
@pytest.mark.parametrize("limits", [{"idle_timeout": 0.3}, {"timeout": 60, "idle_timeout": 0.3}, {"timeout": 0.3}])
async def test_a_program_that_still_waits_for_its_stdin_has_not_been_silent(new_pool, tmp_path, limits, options):
    """It has not run: nobody writes to the FIFO."""
    os.mkfifo(tmp_path / "fifo")
    error = await outcome(new_pool(1).execute(CommandConfig("cat", stdin=tmp_path / "fifo", **limits, **options)))
    assert isinstance(error, CommandTimeout)
    assert error.result.end_reason is (EndReason.IDLE_TIMEOUT if "idle_timeout" in limits else EndReason.TIMEOUT)
    assert "the program never ran (0.3 s)" in str(error)
