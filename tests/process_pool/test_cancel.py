"""Cancelling commands of a pool at every moment there is."""

import asyncio
import random

import pytest
from contract.support import helper, is_gone, with_patience

from aiocmdpool.backends.workers import answers
from aiocmdpool.backends.workers import worker as worker_module
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import TaskCancelled

from .support import PATIENCE, children_of, hold, in_background, outcome, pairs, sh

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_storm_of_cancellations_leaves_neither_tasks_nor_processes(new_pool, seed):
    """Of 300 commands of every length, most cancelled at a random moment, some twice."""
    pool = new_pool(2)
    rng = random.Random(seed)
    scripts = ["exit 0", "echo out", "sleep 60", "sleep 0.02", "sleep 60 & sleep 60", "head -c 200000 /dev/zero"]

    async def run(number: int) -> object:
        command = sh(rng.choice(scripts), grace=0.5, stdin=b"x" * rng.choice((0, 10, 100_000)))
        task = asyncio.ensure_future(pool.execute(command))
        for _ in range(rng.randrange(8)):
            await asyncio.sleep(0)
        await asyncio.sleep(rng.choice((0, 0, 0.001, 0.01, 0.05)))
        task.cancel()
        if rng.random() < 0.3:
            await asyncio.sleep(0)
            task.cancel()
        return await outcome(task)

    for start in range(0, 300, 50):
        ends = await asyncio.wait_for(asyncio.gather(*map(run, range(start, start + 50))), PATIENCE)
        assert all(isinstance(end, asyncio.CancelledError) or end.returncode == 0 for end in ends), ends
        assert sum(isinstance(end, asyncio.CancelledError) for end in ends) > 10
        assert children_of(pool.statistics().pids) == []
    assert pool.statistics().in_flight == 0
    assert pool.statistics().lost == 0
    assert (await pool.execute(CommandConfig("echo", ["fine"]))).stdout == b"fine\n"


async def test_cancelled_in_the_turn_in_which_the_reply_arrives(new_pool, monkeypatch):
    pool = new_pool(1)
    resolve = worker_module.Pending.resolve

    def resolve_and_cancel(entry: worker_module.Pending, answer: object) -> None:
        resolve(entry, answer)
        task.cancel()

    monkeypatch.setattr(worker_module.Pending, "resolve", resolve_and_cancel)
    for script in ("echo out", "head -c 300000 /dev/zero", "head -c 3000000 /dev/zero", "exit 3"):
        task = asyncio.ensure_future(pool.execute(sh(script, check=True)))
        with pytest.raises(asyncio.CancelledError) as caught:
            await asyncio.wait_for(asyncio.shield(task), PATIENCE)
        assert task.cancelled()
        assert caught.value.__cause__ is None or isinstance(caught.value.__cause__, TaskCancelled)
    monkeypatch.undo()
    assert (await pool.execute(CommandConfig("echo", ["fine"]))).stdout == b"fine\n"


async def test_cancelled_before_its_first_turn_it_never_runs(new_pool, tmp_path):
    pool = new_pool(1)
    await pool.execute(CommandConfig("true"))
    log = tmp_path / "log"
    tasks = [asyncio.ensure_future(pool.execute(sh('echo x >>"$1"', log))) for _ in range(20)]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    await pool.execute(CommandConfig("true"))
    assert not log.exists()


async def test_one_of_many_is_cancelled_and_the_others_do_not_notice(new_pool, ready, release):
    pool = new_pool(1)
    running = in_background(pool, *[hold(ready, release)] * 5)
    held = await pairs(ready, 5)
    running[2].cancel()
    error = await running[2]
    assert isinstance(error, asyncio.CancelledError)
    assert sum(map(is_gone, (pid for pid, _ in held))) == 1
    for _ in range(4):
        release.send()
    assert [getattr(await end, "stdout", None) for end in running] == [b"held\n"] * 2 + [None] + [b"held\n"] * 2


async def test_a_cancelled_command_is_dead_when_the_cancellation_arrives(new_pool, ready):
    pool = new_pool(2)
    tasks, pids = [], []
    for _ in range(4):
        tasks.append(asyncio.ensure_future(pool.execute(helper("ignore_sigterm", ready.path, grace=0.1))))
        pids.append(int(await ready.wait()))
    for task in tasks:
        task.cancel()
    for task, pid in zip(tasks, pids, strict=True):
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert is_gone(pid)
        assert isinstance(caught.value.__cause__, TaskCancelled)
        assert caught.value.__cause__.result.stdout == b"stubborn"


async def test_cancelled_while_large_output_is_read(new_pool, monkeypatch):
    """A thread reads it; the cancellation waits for that and brings the result, and the descriptors are closed."""
    pool = new_pool(1)
    reading = asyncio.Event()
    read = answers.read_handed_over

    async def telling(*args: object) -> None:
        reading.set()
        await read(*args)

    monkeypatch.setattr(answers, "read_handed_over", telling)
    for _ in range(5):
        reading.clear()
        task = asyncio.ensure_future(pool.execute(sh("head -c 20000000 /dev/zero")))
        await asyncio.wait_for(reading.wait(), PATIENCE)
        task.cancel()
        cancelled = await outcome(task)
        assert isinstance(cancelled, asyncio.CancelledError)
        assert isinstance(cancelled.__cause__, TaskCancelled)
        assert len(cancelled.__cause__.result.stdout) == 20_000_000


async def test_a_timeout_of_the_caller_is_a_cancellation(new_pool, ready):
    pool = new_pool(1)
    await pool.execute(CommandConfig("true"))

    async def attempt(seconds: float) -> list[bytes]:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await pool.execute(helper("sleep_after_ready", ready.path))
        return ready.heard()

    [pid] = await with_patience(attempt, lambda heard: len(heard) == 1)
    assert is_gone(int(pid))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pool.execute(CommandConfig("sleep", ["60"])), 0.05)
    assert children_of(pool.statistics().pids) == []
