"""Workers that have done enough, or have grown too large, are replaced; nothing that runs in them is lost."""

import asyncio

import pytest
from contract.support import is_gone, pattern

from aiocmdpool.backends.workers import crew
from aiocmdpool.commands.command import CommandConfig

from .support import hold, in_background, pairs, sh, until

pytestmark = [pytest.mark.slow, pytest.mark.one_loop("asyncio", "uvloop")]  # debug mode shows nothing new here


async def test_a_worker_is_replaced_after_so_many_commands(new_pool):
    pool = new_pool(1, recycle_after=10)
    workers = [int((await pool.execute(sh("echo $PPID"))).stdout) for _ in range(35)]
    assert [workers.count(worker) for worker in dict.fromkeys(workers)] == [10, 10, 10, 5]
    assert pool.statistics().recycled == 3
    assert pool.statistics().lost == 0
    *old, _ = dict.fromkeys(workers)
    await until(lambda: all(map(is_gone, old)), "the old ones have left")


async def test_what_runs_in_a_replaced_worker_comes_to_its_end(new_pool, ready, release):
    pool = new_pool(1, recycle_after=4)
    [held] = in_background(pool, hold(ready, release))
    [(_, worker)] = await pairs(ready, 1)
    others = [int((await pool.execute(sh("echo $PPID"))).stdout) for _ in range(8)]
    assert worker in others
    assert others[-1] != worker
    assert not held.done()
    assert pool.statistics().in_flight == 1
    release.send()
    assert (await held).stdout == b"held\n"
    await until(lambda: is_gone(worker))
    assert pool.statistics().lost == 0


async def test_large_output_of_the_last_command_of_a_worker_is_whole(new_pool, ready, release):
    """More than a pipe holds comes after the worker was told to leave."""
    pool = new_pool(1, recycle_after=2)
    script = 'echo >"$1"; read x <"$2"; head -c 65000 /dev/zero; head -c 65000 /dev/zero >&2'
    [last] = in_background(pool, sh(script, ready.path, release.path))
    await ready.wait()
    worker = pool.statistics().pids
    await pool.execute(CommandConfig("true"))
    await until(lambda: pool.statistics().recycled == 1 and pool.statistics().pids != worker)
    release.send()
    result = await last
    assert (result.stdout, result.stderr) == (bytes(65000), bytes(65000))


async def test_output_in_memory_files_of_the_last_commands_of_a_worker_is_whole(new_pool, ready, release, tmp_path):
    pool = new_pool(1, recycle_after=20)
    (tmp_path / "data").write_bytes(pattern(300_000))
    script = 'echo >"$1"; read x <"$2"; cat "$3"'
    last = in_background(pool, *[sh(script, ready.path, release.path, tmp_path / "data")] * 19)
    for _ in last:
        await ready.wait()
    await pool.execute(CommandConfig("true"))
    assert pool.statistics().recycled == 1
    for _ in last:
        release.send()
    assert {(await end).stdout for end in last} == {pattern(300_000)}


async def test_a_storm_of_short_lived_workers_loses_nothing(new_pool):
    pool = new_pool(2, recycle_after=15)
    commands = [CommandConfig("echo", [str(number)]) for number in range(300)]
    ends = await asyncio.gather(*in_background(pool, *commands))
    assert [int(end.stdout) for end in ends] == list(range(300))
    for start in range(0, 200, 5):
        ends = await asyncio.gather(*in_background(pool, *commands[start : start + 5]))
        assert [int(end.stdout) for end in ends] == list(range(start, start + 5))
    assert pool.statistics().lost == 0
    assert pool.statistics().recycled > 10


async def test_cancelled_commands_do_not_keep_a_replaced_worker(new_pool, ready, release):
    pool = new_pool(1, recycle_after=2)
    [held] = in_background(pool, hold(ready, release))
    [(_, worker)] = await pairs(ready, 1)
    await pool.execute(CommandConfig("true"))
    assert worker not in pool.statistics().pids
    held.cancel()
    assert isinstance(await held, asyncio.CancelledError)
    await until(lambda: is_gone(worker))


async def test_a_worker_that_has_grown_too_large_is_replaced(new_pool, monkeypatch):
    monkeypatch.setattr(crew, "LOOK_AT_MEMORY_EVERY", 5)
    pool = new_pool(1, max_worker_memory=1)
    workers = [int((await pool.execute(sh("echo $PPID"))).stdout) for _ in range(12)]
    assert [workers.count(worker) for worker in dict.fromkeys(workers)] == [5, 5, 2]
    assert pool.statistics().recycled == 2


async def test_a_worker_of_a_usual_size_is_not_replaced(new_pool, monkeypatch):
    monkeypatch.setattr(crew, "LOOK_AT_MEMORY_EVERY", 1)
    pool = new_pool(1, max_worker_memory=500_000_000)
    workers = {int((await pool.execute(sh("echo $PPID"))).stdout) for _ in range(5)}
    assert len(workers) == 1
    assert pool.statistics().recycled == 0


@pytest.mark.one_loop
async def test_the_memory_of_what_is_not_there_is_none():
    assert crew.resident_memory(2**22 + 1) == 0
