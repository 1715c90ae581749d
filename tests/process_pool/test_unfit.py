"""Workers from which something was taken are replaced: their limits, their CPUs, the bytes in their pipes."""

import asyncio
import errno
import os
import resource
import select

import pytest
from contract.support import is_gone

from aiocmdpool.backends.workers.pending import WorkerUnfit
from aiocmdpool.backends.workers.process_pool import ProcessPool
from aiocmdpool.backends.workers.worker import Worker
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import IoError, WorkerLost
from aiocmdpool.standalone.wire.frames import EXIT, FrameDecoder

from .support import PATIENCE, hold, in_background, outcome, pairs, sh, until

pytestmark = [pytest.mark.slow, pytest.mark.one_loop("asyncio", "uvloop")]

FINE = CommandConfig("echo", ["fine"])


def take_descriptors_from(pid: int) -> None:
    """As any program of the same user can."""
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, 3))


async def ready_worker(pool: ProcessPool) -> int:
    await pool.start()
    await until(lambda: all(worker.ready for worker in pool._workers))
    return pool.statistics().pids[0]


async def assert_replaced(pool: ProcessPool, worker: int) -> None:
    await until(lambda: worker not in pool.statistics().pids and is_gone(worker))
    assert (await pool.execute(FINE)).stdout == b"fine\n"
    assert (pool.statistics().recycled, pool.statistics().lost) == (1, 0)


async def test_a_busy_worker_whose_limits_are_lowered_is_replaced_and_finishes_what_it_has(
    new_pool, ready, release, quick_beats
):
    pool = new_pool(1)
    [running] = in_background(pool, hold(ready, release))
    [(_, worker)] = await pairs(ready, 1)
    resource.prlimit(worker, resource.RLIMIT_CPU, (1000, 1000))
    await until(lambda: worker not in pool.statistics().pids)
    assert (await pool.execute(FINE)).stdout == b"fine\n"
    assert not is_gone(worker)
    release.send()
    assert (await running).stdout == b"held\n"
    await assert_replaced(pool, worker)


async def test_large_output_in_a_worker_without_descriptors_says_what_is_missing(new_pool, ready, release):
    pool = new_pool(1)
    loud = sh('echo $$ $PPID >"$1"; read x <"$2"; head -c 300000 /dev/zero', ready.path, release.path)
    [running] = in_background(pool, loud)
    [(_, worker)] = await pairs(ready, 1)
    take_descriptors_from(worker)
    release.send()
    error = await running
    assert isinstance(error, IoError)
    assert error.errno == errno.EMFILE
    assert "output could not be kept" in str(error)
    assert pool.statistics().lost == 0


async def test_large_output_in_a_worker_that_may_write_no_files_says_what_is_missing(new_pool, ready, release):
    pool = new_pool(1)
    loud = sh('echo $$ $PPID >"$1"; read x <"$2"; head -c 300000 /dev/zero', ready.path, release.path)
    [running] = in_background(pool, loud)
    [(_, worker)] = await pairs(ready, 1)
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (0, 0))
    release.send()
    error = await running
    assert isinstance(error, IoError)
    assert error.errno == errno.EFBIG
    assert "ulimit -f" in str(error)
    assert pool.statistics().lost == 0


async def test_a_worker_that_runs_a_short_command_now_and_then_is_looked_at_as_well(new_pool, quick_beats):
    pool = new_pool(1)
    worker = await ready_worker(pool)
    resource.prlimit(worker, resource.RLIMIT_CPU, (1000, 1000))
    assert (await pool.execute(FINE)).stdout == b"fine\n"
    await assert_replaced(pool, worker)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is only one CPU")
async def test_a_worker_whose_cpus_are_taken_is_replaced(new_pool, ready, release, quick_beats):
    pool = new_pool(1)
    [running] = in_background(pool, hold(ready, release))
    [(_, worker)] = await pairs(ready, 1)
    os.sched_setaffinity(worker, {min(os.sched_getaffinity(0))})
    await until(lambda: worker not in pool.statistics().pids)
    release.send()
    assert (await running).stdout == b"held\n"
    await assert_replaced(pool, worker)


@pytest.mark.skipif(os.getpriority(os.PRIO_PROCESS, 0) == 19, reason="there is no room for more (setpriority(2))")
@pytest.mark.parametrize("taken", ["niceness", "policy"])
async def test_a_worker_that_is_put_behind_others_is_replaced(new_pool, ready, release, quick_beats, taken):
    """As `renice 19 $PPID` and `chrt -i -p 0 $PPID` do it."""
    pool = new_pool(1)
    [running] = in_background(pool, hold(ready, release))
    [(_, worker)] = await pairs(ready, 1)
    if taken == "niceness":
        os.setpriority(os.PRIO_PROCESS, worker, 19)
    else:
        os.sched_setscheduler(worker, os.SCHED_IDLE, os.sched_param(0))
    await until(lambda: worker not in pool.statistics().pids)
    release.send()
    assert (await running).stdout == b"held\n"
    await assert_replaced(pool, worker)


@pytest.mark.skipif(os.getpriority(os.PRIO_PROCESS, 0) > 10, reason="there is no room for more (setpriority(2))")
async def test_a_worker_of_a_pool_with_a_niceness_of_its_own_is_kept(new_pool, ready, release, quick_beats):
    pool = new_pool(1, niceness=7)
    [running] = in_background(pool, hold(ready, release))
    [(_, worker)] = await pairs(ready, 1)
    [heartbeat] = [each._heartbeat for each in pool._workers]
    pings = heartbeat._pings
    await until(lambda: heartbeat._pings > pings + 2)
    assert os.getpriority(os.PRIO_PROCESS, worker) == os.getpriority(os.PRIO_PROCESS, 0) + 7
    assert pool.statistics().pids == (worker,)
    release.send()
    assert (await running).stdout == b"held\n"


@pytest.mark.parametrize("options", [{}, {"umask": 0o22}], ids=["spawned", "forked"])
async def test_a_command_that_a_crippled_worker_cannot_start_is_started_by_another(new_pool, options):
    pool = new_pool(1)
    worker = await ready_worker(pool)
    take_descriptors_from(worker)
    assert (await pool.execute(FINE.with_options(**options))).stdout == b"fine\n"
    await assert_replaced(pool, worker)


async def test_all_commands_that_a_crippled_worker_cannot_start_are_started_by_others(new_pool):
    pool = new_pool(1)
    worker = await ready_worker(pool)
    take_descriptors_from(worker)
    ends = await asyncio.wait_for(asyncio.gather(*in_background(pool, *[FINE] * 30)), PATIENCE)
    assert [end.stdout for end in ends] == [b"fine\n"] * 30
    await assert_replaced(pool, worker)


async def test_a_crippled_worker_is_kept_where_no_other_can_be_started(new_pool, monkeypatch):
    pool = new_pool(1)
    worker = await ready_worker(pool)
    take_descriptors_from(worker)

    def refuse() -> None:
        raise WorkerLost("as the test wants")

    with monkeypatch.context() as patch:
        patch.setattr(pool._crew, "_start_worker", refuse)
        assert isinstance(await outcome(pool.execute(FINE)), IoError)
        assert pool.statistics().pids == (worker,)
    assert (await pool.execute(FINE)).stdout == b"fine\n"
    await assert_replaced(pool, worker)


async def test_a_command_that_two_workers_could_not_start_is_not_tried_a_third_time(new_pool, monkeypatch):
    pool = new_pool(1)
    await ready_worker(pool)
    tried: list[int] = []

    async def fail(worker: Worker, *_: object) -> None:
        tried.append(worker.pid)
        raise WorkerUnfit(IoError("as the test wants"))

    monkeypatch.setattr(Worker, "execute", fail)
    with pytest.raises(IoError, match="as the test wants"):
        await pool.execute(FINE)
    assert len(tried) == 2


async def test_a_reply_that_somebody_else_reads_is_missed(new_pool, ready, release, quick_beats):
    """A program of the same user that opens the descriptors of this process can do that."""
    pool = new_pool(1)
    stolen, kept = in_background(pool, *[hold(ready, release)] * 2)
    [(_, worker), _] = await pairs(ready, 2)
    [connection] = [each._program.connection for each in pool._workers]
    release.send()
    thief = os.dup(connection._reading)
    decoder = FrameDecoder()
    while select.select([thief], [], [], PATIENCE)[0]:  # the loop of this process does not turn meanwhile
        if EXIT in [kind for kind, _, _ in decoder.feed(os.read(thief, 65536))]:
            break
    os.close(thief)
    done, [running] = await asyncio.wait([stolen, kept], timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    [error] = [end.result() for end in done]
    assert isinstance(error, WorkerLost)
    assert "reply was lost" in str(error)
    release.send()
    assert (await running).stdout == b"held\n"
    await assert_replaced(pool, worker)


async def test_a_pool_is_closed_while_a_worker_is_being_replaced(new_pool):
    pool = new_pool(1)
    worker = await ready_worker(pool)
    take_descriptors_from(worker)
    [running] = in_background(pool, sh("sleep 60"))
    await until(lambda: worker not in pool.statistics().pids)
    await asyncio.wait_for(pool.aclose(), PATIENCE)
    assert is_gone(worker)
    assert isinstance(await running, Exception)
