"""Workers that die: what that costs, what it leaves, and how they are replaced."""

import asyncio
import contextlib
import os
import random
import resource
import signal
import sys
from pathlib import Path

import pytest
from contract.support import assert_dead, helper, is_gone

from aiocmdpool.backends.workers import crew
from aiocmdpool.backends.workers import process as program_module
from aiocmdpool.backends.workers import worker as worker_module
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import WorkerLost
from aiocmdpool.standalone.kernel import cgroup

from .support import PATIENCE, hold, in_background, outcome, pairs, sh, until

pytestmark = [pytest.mark.slow, pytest.mark.one_loop("asyncio", "uvloop")]  # debug mode shows nothing new here


@pytest.fixture
def patient(monkeypatch) -> None:
    """Do not wait for a worker to have lived a while before its death is taken for an accident."""
    monkeypatch.setattr(worker_module, "PROVEN_AFTER", 0.0)


def kill(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def test_a_worker_that_is_killed_while_idle_is_replaced(new_pool):
    pool = new_pool(2)
    await asyncio.gather(*(pool.execute(CommandConfig("true")) for _ in range(4)))
    before = pool.statistics().pids
    kill(before[0])
    await until(lambda: pool.statistics().lost == 1)
    assert (await pool.execute(CommandConfig("echo", ["fine"]))).stdout == b"fine\n"
    after = pool.statistics().pids
    assert len(after) == 2
    assert before[1] in after
    assert before[0] not in after
    assert is_gone(before[0])


async def test_a_worker_that_is_killed_in_mid_command_costs_that_command_and_says_so(new_pool, ready, release):
    pool = new_pool(2)
    first, second = in_background(pool, *[hold(ready, release, label="the command")] * 2)
    held = dict(await pairs(ready, 2))
    [pid, worker], *_ = held.items()
    kill(worker)
    done, others = await asyncio.wait([first, second], timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    [error] = [end.result() for end in done]
    assert isinstance(error, WorkerLost)
    for word in ("the command", str(worker), "killed by", "may have run"):
        assert word in str(error)
    assert error.command.label == "the command"
    await assert_dead(pid)
    [other] = others
    release.send()
    assert (await other).stdout == b"held\n"
    assert (await pool.execute(CommandConfig("echo", ["fine"]))).stdout == b"fine\n"


@pytest.mark.parametrize("rest", ["", ":99999", "+1", ":", "x", "," + "9" * 5000])
async def test_a_forged_number_in_its_mark_saves_nothing_from_the_death_of_its_worker(
    new_pool, ready, release, monkeypatch, rest
):
    monkeypatch.setattr(cgroup, "own_directory", lambda: "")  # one would take it along, whatever it says
    pool = new_pool(1)
    orphan = 'AIOCMDPOOL_RUN="${AIOCMDPOOL_RUN%:*}$3" setsid sh -c \'echo $$ >"$1"; exec sleep 60\' sh "$1" &'
    [running] = in_background(pool, sh(f'({orphan}); read x <"$2"', ready.path, release.path, rest))
    pid = int(await ready.wait())
    [worker] = pool.statistics().pids
    kill(worker)
    assert isinstance(await outcome(running), WorkerLost)
    await assert_dead(pid)


async def test_nothing_of_a_killed_worker_is_left_when_its_commands_are_settled(new_pool, ready):
    pool = new_pool(1)
    running = in_background(pool, helper("double_fork", ready.path, "stay", "session"))
    pids = await ready.pids(2)
    running += in_background(pool, helper("grandchildren", ready.path, "stubborn"))
    pids += await ready.pids(4)
    running += in_background(pool, helper("ignore_sigterm", ready.path))
    pids += await ready.pids(1)
    running += in_background(pool, sh('echo $$ >"$1"; exec env -i sleep 60', ready.path))
    pids += await ready.pids(1)
    await until(lambda: all(entry.started_pid for entry in pool._workers[0]._pending.values()))
    kill(*pool.statistics().pids)
    assert {type(await end) for end in running} == {WorkerLost}
    assert [pid for pid in pids if not is_dead_now(pid)] == []


def is_dead_now(pid: int) -> bool:
    """Dead, whether or not whoever has inherited it has reaped it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


async def test_an_idempotent_command_runs_again_when_its_worker_was_lost(new_pool, ready, release, tmp_path):
    pool = new_pool(1)
    log = tmp_path / "log"
    command = sh('echo x >>"$3"; echo $$ $PPID >"$1"; read x <"$2"; echo held', ready.path, release.path, log)
    again, once = in_background(pool, command.with_options(idempotent=True), command)
    workers = {worker for _, worker in await pairs(ready, 2)}
    kill(*workers)
    assert isinstance(await once, WorkerLost)
    [(_, worker)] = await pairs(ready, 1)
    assert worker not in workers
    release.send()
    assert (await again).stdout == b"held\n"
    assert log.read_text() == "x\n" * 3


async def test_an_idempotent_command_does_not_run_again_for_any_other_reason(new_pool, tmp_path):
    pool = new_pool(1)
    log = tmp_path / "log"
    for script, options in (
        ("exit 3", {}),
        ("sleep 60", {"timeout": 2.0}),  # by then it has left its mark
        ("kill -9 $$", {}),
        ("exit 1", {"check": True}),
    ):
        await outcome(pool.execute(sh(f'echo x >>"$1"; {script}', log, idempotent=True, **options)))
    assert log.read_text() == "x\n" * 4


async def test_an_idempotent_command_that_kills_its_worker_does_not_do_so_for_ever(new_pool, tmp_path, patient):
    pool = new_pool(1)
    log = tmp_path / "log"
    async with asyncio.timeout(PATIENCE):
        error = await outcome(pool.execute(sh('echo x >>"$1"; kill -9 $PPID; sleep 60', log, idempotent=True)))
        assert isinstance(error, WorkerLost)
        assert 1 < len(log.read_text().split()) < 10
        assert (await pool.execute(CommandConfig("echo", ["fine"]))).stdout == b"fine\n"


async def test_no_command_runs_twice_whenever_its_worker_dies(new_pool, tmp_path, patient):
    """Each leaves a mark when it runs. One that ended has left one; one that was lost may have left one."""
    pool = new_pool(2)
    rng = random.Random(20)
    running = []

    async def run(number: int) -> tuple[int, object]:
        command = sh('echo x >>"$1"; echo "$2"', tmp_path / str(number), number)
        return number, await outcome(pool.execute(command))

    for burst in range(12):
        running += [asyncio.ensure_future(run(burst * 12 + number)) for number in range(12)]
        for _ in range(rng.randrange(12)):
            await asyncio.sleep(rng.choice((0, 0, 0.001, 0.005)))
        if burst % 3 == 2:  # on a slow machine the others may all hit workers that are still starting
            await asyncio.wait(running[-12:], return_when=asyncio.FIRST_COMPLETED)
        if pool.statistics().pids:
            kill(rng.choice(pool.statistics().pids))
    ends = await asyncio.wait_for(asyncio.gather(*running), PATIENCE)
    lost = 0
    for number, end in ends:
        marks = (tmp_path / str(number)).read_text() if (tmp_path / str(number)).exists() else ""
        if isinstance(end, WorkerLost):
            lost += 1
            assert marks in ("", "x\n"), f"{number} ran twice, and was lost"
        else:
            assert marks == "x\n", f"{number} ended, and has run {len(marks) // 2} times"
            assert int(end.stdout) == number
    assert 0 < lost < len(ends)
    assert pool.statistics().lost > 2


async def test_idempotent_commands_all_come_to_their_end_whenever_workers_die(new_pool, patient):
    pool = new_pool(2)
    rng = random.Random(7)
    commands = [CommandConfig("echo", [str(number)], idempotent=True) for number in range(150)]
    running = in_background(pool, *commands)
    for _ in range(2):  # a command may lose as many workers as it is given chances, but for one
        await asyncio.sleep(rng.uniform(0, 0.02))
        if pool.statistics().pids:
            kill(rng.choice(pool.statistics().pids))
    ends = await asyncio.wait_for(asyncio.gather(*running), PATIENCE)
    assert [int(end.stdout) for end in ends] == list(range(150))


async def test_a_command_that_had_not_left_this_process_runs_elsewhere(new_pool, tmp_path, patient):
    pool = new_pool(1)
    await pool.execute(CommandConfig("true"))
    log = tmp_path / "log"
    [waiting] = in_background(pool, sh('echo x >>"$1"; echo fine', log))
    pool._workers[0]._lose("the test says so")  # in the turn before it leaves
    assert (await waiting).stdout == b"fine\n"
    assert log.read_text() == "x\n"


async def test_all_workers_die_at_once(new_pool, ready, release, patient):
    pool = new_pool(3)
    running = in_background(pool, *[hold(ready, release)] * 6)
    held = await pairs(ready, 6)
    kill(*pool.statistics().pids)
    assert {type(await end) for end in running} == {WorkerLost}
    await assert_dead(*(pid for pid, _ in held))
    ends = await asyncio.gather(*in_background(pool, *[CommandConfig("echo", ["fine"])] * 9))
    assert {end.stdout for end in ends} == {b"fine\n"}
    assert pool.statistics().lost == 3


# -- workers that cannot be started ----------------------------------------------------------------------------------


@pytest.fixture
def broken(monkeypatch, tmp_path) -> Path:
    """Workers die at once with a word on stderr; each leaves a mark in the file that is returned."""
    folder, marks = tmp_path / "broken", tmp_path / "marks"
    folder.mkdir()
    marks.touch()
    source = f"import sys\nopen({str(marks)!r}, 'a').write('x')\nsys.exit('the disk is on fire')\n"
    (folder / "__main__.py").write_text(source)
    monkeypatch.setattr(program_module, "FOLDER", str(folder))
    monkeypatch.setattr(crew, "BACK_OFF", 0.02)
    monkeypatch.setattr(crew, "BACK_OFF_LIMIT", 0.2)
    return marks


async def test_when_no_worker_can_live_commands_fail_with_the_cause(new_pool, broken):
    pool = new_pool(2)
    async with asyncio.timeout(PATIENCE):
        for end in in_background(pool, *[CommandConfig("true", label="the command")] * 10):
            error = await end
            assert isinstance(error, WorkerLost)
            for word in ("the command", "no worker can be started", "the disk is on fire"):
                assert word in str(error)


async def test_workers_that_die_at_once_are_not_started_all_the_time(new_pool, broken):
    pool = new_pool(1)
    await outcome(pool.execute(CommandConfig("true")))
    before = len(broken.read_text())
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() < began + 0.5:  # whoever tries again does not start them either
        await outcome(pool.execute(CommandConfig("true")))
        await asyncio.sleep(0.005)
    assert len(broken.read_text()) - before <= 2.5 + (loop.time() - began) / 0.2  # 0.2 s apart


async def test_a_pool_recovers_when_workers_can_live_again(new_pool, broken, monkeypatch):
    pool = new_pool(2)
    assert isinstance(await outcome(pool.execute(CommandConfig("true"))), WorkerLost)
    monkeypatch.undo()
    async with asyncio.timeout(PATIENCE):
        while isinstance(end := await outcome(pool.execute(CommandConfig("echo", ["fine"]))), WorkerLost):
            await asyncio.sleep(0.01)
    assert end.stdout == b"fine\n"
    ends = await asyncio.gather(*in_background(pool, *[CommandConfig("echo", ["fine"])] * 20))
    assert {end.stdout for end in ends} == {b"fine\n"}


async def test_without_an_interpreter_commands_fail_with_the_cause(new_pool, monkeypatch):
    monkeypatch.setattr(crew, "BACK_OFF", 0.01)
    pool = new_pool(1)
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    async with asyncio.timeout(PATIENCE):
        error = await outcome(pool.execute(CommandConfig("true")))
    assert isinstance(error, WorkerLost)
    assert "/no/such/python" in str(error)
    monkeypatch.undo()
    async with asyncio.timeout(PATIENCE):
        assert (await pool.execute(CommandConfig("true"))).ok  # whoever comes now is worth another try


async def test_a_host_without_descriptors_is_told_and_recovers(new_pool, monkeypatch):
    monkeypatch.setattr(crew, "BACK_OFF", 0.01)
    pool = new_pool(1)
    await pool.execute(CommandConfig("true"))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limit[1]))  # what is open stays so
    try:
        kill(*pool.statistics().pids)
        await until(lambda: pool.statistics().lost == 1)
        async with asyncio.timeout(PATIENCE):
            error = await outcome(pool.execute(CommandConfig("true")))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert isinstance(error, WorkerLost)
    assert os.strerror(24) in str(error)
    async with asyncio.timeout(PATIENCE):
        end = await pool.execute(CommandConfig("echo", ["fine"]))
    assert end.stdout == b"fine\n"


async def test_a_closed_pool_starts_no_workers_any_more(new_pool, monkeypatch):
    """Deaths before had each asked for a new one."""
    monkeypatch.setattr(crew, "BACK_OFF", 0.5)
    pool = new_pool(3)
    await pool.start()
    kill(*pool.statistics().pids)
    await until(lambda: pool._crew._respawn is not None)
    await pool.aclose()
    await asyncio.sleep(1.5)  # several times as long as it would take
    assert pool.statistics().workers == 0
