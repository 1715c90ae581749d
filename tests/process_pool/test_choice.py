"""Which worker gets a command, how many there are, and what the statistics say of them."""

import asyncio
import os
import re
import time

import psutil
import pytest
from contract.support import is_gone, niceness_after

from aiocmdpool.backends.workers.process_pool import ProcessPool
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ConfigError, IoError
from aiocmdpool.one_shot_live import execute_pipeline
from aiocmdpool.system.cpus import cpu_count

from .support import hold, in_background, outcome, pairs, sh, until

pytestmark = pytest.mark.slow


async def test_commands_are_spread_over_the_workers(new_pool, ready, release):
    pool = new_pool(3)
    running = in_background(pool, *[hold(ready, release)] * 9)
    workers = [worker for _, worker in await pairs(ready, 9)]
    assert sorted(map(workers.count, set(workers))) == [3, 3, 3]
    assert set(workers) == set(pool.statistics().pids)
    for _ in running:
        release.send()
    assert [(await end).stdout for end in running] == [b"held\n"] * 9


async def test_the_stages_of_a_pipeline_are_in_one_worker(new_pool):
    pool = new_pool(3)
    stage = CommandConfig.shell("echo $PPID >&2; cat")
    result = await execute_pipeline(stage | stage | stage, executor=pool)
    parents = {int(result.stderr) for result in result.results}
    assert len(parents) == 1
    assert parents <= set(pool.statistics().pids)


async def test_the_least_loaded_worker_gets_the_next_command(new_pool, ready, release):
    pool = new_pool(2)
    running = {}
    for _ in range(6):
        [end] = in_background(pool, hold(ready, release))
        [(_, worker)] = await pairs(ready, 1)
        running.setdefault(worker, []).append(end)
    free, busy = running
    for end in running[free]:
        end.cancel()
    await asyncio.wait(running[free])
    for _ in range(3):
        running[free] += in_background(pool, hold(ready, release))
        assert [worker for _, worker in await pairs(ready, 1)] == [free]
    assert len(running[busy]) == 3
    for _ in range(6):
        release.send()
    await asyncio.wait([*running[free], *running[busy]])


async def test_there_are_as_many_workers_as_were_asked_for_and_they_stay(new_pool):
    pool = new_pool(3)
    assert (pool.size, pool.statistics().pids) == (3, ())
    await asyncio.gather(*(pool.execute(CommandConfig("true")) for _ in range(30)))
    pids = pool.statistics().pids
    assert len(set(pids)) == 3
    await asyncio.gather(*(pool.execute(CommandConfig("true")) for _ in range(30)))
    assert pool.statistics().pids == pids
    assert [child.pid for child in psutil.Process().children()] == list(pids)


async def test_workers_lead_sessions_of_their_own(new_pool):
    """What a terminal sends to the host, such as Ctrl-C, does not reach them or what they run."""
    pool = new_pool(2)
    await pool.execute(CommandConfig("true"))
    for pid in pool.statistics().pids:
        assert os.getsid(pid) == pid != os.getsid(0)


async def test_entering_a_pool_starts_its_workers():
    async with ProcessPool(2) as pool:
        pids = pool.statistics().pids
        assert len(pids) == 2
    assert all(map(is_gone, pids))


@pytest.mark.one_loop
async def test_there_is_a_worker_for_each_cpu_unless_told_otherwise(new_pool):
    assert new_pool(None).size == cpu_count()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("workers", 0),
        ("workers", 1.5),
        ("niceness", 41),
        ("recycle_after", 0),
        ("max_worker_memory", 0),
        ("hang_after", -1),
        ("hang_after", "5"),
    ],
)
def test_a_wrong_setting_is_named(field, value):
    with pytest.raises(ConfigError, match=field) as caught:
        ProcessPool(**{field: value})
    assert caught.value.field == field


async def test_the_statistics_count_what_has_been_and_what_is(new_pool, ready, release):
    pool = new_pool(2)
    assert pool.statistics().completed == 0
    for program in ("true", "no-such-program-anywhere", "false"):
        await outcome(pool.execute(CommandConfig(program)))
    now = pool.statistics()
    assert (now.workers, now.in_flight, now.completed, now.lost, now.recycled) == (2, 0, 3, 0, 0)
    running = in_background(pool, *[hold(ready, release)] * 3)
    await pairs(ready, 3)
    assert pool.statistics().in_flight == 3
    assert repr(pool) == "<ProcessPool open, 2 of 2 workers, 3 in flight>"
    for _ in running:
        release.send()
    await asyncio.wait(running)
    now = pool.statistics()
    assert (now.in_flight, now.completed) == (0, 6)
    await pool.aclose()
    assert repr(pool) == "<ProcessPool closed, 0 of 2 workers, 0 in flight>"
    assert pool.statistics().pids == ()


async def test_a_command_that_is_sent_again_is_counted_once(new_pool):
    pool = new_pool(1)
    await pool.execute(CommandConfig("true"))
    await until(lambda: pool._workers[0].proven)
    [again] = in_background(pool, CommandConfig("true"))
    pool._workers[0]._lose("the test says so")  # in the turn before the request leaves
    assert (await again).returncode == 0
    assert pool.statistics().completed == 2


async def test_the_niceness_is_that_of_the_workers_and_of_what_they_start(new_pool):
    pool = new_pool(2, niceness=3)
    results = await asyncio.gather(*(pool.execute(CommandConfig("nice")) for _ in range(4)))
    assert {int(result.stdout) for result in results} == {niceness_after(3)}
    assert {os.getpriority(os.PRIO_PROCESS, pid) for pid in pool.statistics().pids} == {niceness_after(3)}
    own_more = await pool.execute(CommandConfig("nice", niceness=2))
    assert int(own_more.stdout) == niceness_after(3 + 2)


async def test_commands_may_come_before_any_worker_has_said_hello(new_pool):
    pool = new_pool(2)
    running = in_background(pool, *(CommandConfig("echo", [str(number)]) for number in range(100)))
    await asyncio.sleep(0)
    assert not any(worker.ready for worker in pool._workers)
    assert [int((await end).stdout) for end in running] == list(range(100))


async def test_an_error_of_one_command_is_no_business_of_the_others(new_pool):
    pool = new_pool(1)
    commands = [CommandConfig("no-such-program-anywhere") if n % 3 == 0 else sh(f"exit {n}") for n in range(30)]
    for number, end in enumerate(in_background(pool, *commands)):
        value = await end
        assert isinstance(value, IoError) if number % 3 == 0 else value.returncode == number
    assert pool.statistics().lost == 0


@pytest.mark.one_loop("asyncio", "uvloop")
async def test_an_idle_pool_does_nothing_at_all(new_pool):
    """Neither in this process nor in its workers."""
    pool = new_pool(2)
    await asyncio.gather(*(pool.execute(sh("exit 0", timeout=5)) for _ in range(20)))

    def wakeups() -> list[str]:
        found = []
        for pid in pool.statistics().pids:
            with open(f"/proc/{pid}/status") as file:
                found += re.findall(r"ctxt_switches:\s*(\d+)", file.read())
        return found

    await until(lambda: pool._workers[0]._heartbeat.timer is None and pool._workers[1]._heartbeat.timer is None)
    before, cpu = wakeups(), time.process_time()
    await asyncio.sleep(0.3)
    assert wakeups() == before
    assert time.process_time() - cpu < 0.05
