"""Live processes and pipelines through what stands in front of a backend: pools, policies, and stacks of both."""

import asyncio
import contextlib

import pytest
from contract.support import assert_dead, outcome, sh

from aiocmdpool import (
    CommandConfig,
    CommandPool,
    CommandPoolSeg,
    ExecuteError,
    ExecutionConfig,
    ExecutionMode,
    NonZeroExit,
    ProcessBackend,
    ProcessPoolBackend,
    TaskCancelled,
)
from aiocmdpool.live.pipeline_run import run_pipeline
from aiocmdpool.one_shot_live import stream_command
from aiocmdpool.policies import Admission, CircuitBreaker, KeyLimit, RateLimit, Retry, SingleFlight

pytestmark = pytest.mark.slow

CAT = CommandConfig("cat", label="cat")
LARGE = CommandConfig("head", ["-c", "1000000", "/dev/zero"]) | CAT | CAT | CommandConfig("wc", ["-c"])
"""Its stages fill their pipes, and so wait for each other."""


def policies(executor):
    """All policies, each of which lets one command through at a time."""
    single = SingleFlight(Admission(executor, min_memory=1))
    breaker = CircuitBreaker(single, failures=1_000_000)
    return RateLimit(KeyLimit(Retry(breaker, attempts=1), 1, key=lambda _: "all"), 1_000_000, burst=1000)


@contextlib.asynccontextmanager
async def pool(mode: str, **options):
    config = ExecutionConfig(mode=ExecutionMode[mode], concurrency_limit=1)
    async with CommandPool(config, **options) as made:
        yield made


@contextlib.asynccontextmanager
async def policies_in_pool():
    async with ProcessPoolBackend(1) as backend, pool("PROCESS", executor=policies(backend)) as made:
        yield made


@contextlib.asynccontextmanager
async def pool_in_policies():
    async with pool("PROCESS_POOL") as made:
        yield policies(made)


@contextlib.asynccontextmanager
async def pool_in_pool():
    async with pool("PROCESS") as inner, pool("PROCESS", executor=policies(inner)) as outer:
        yield outer


@contextlib.asynccontextmanager
async def bare_policies():
    async with ProcessBackend() as backend:
        yield policies(backend)


FRONTS = {
    "policies": bare_policies,
    "pool of processes": lambda: pool("PROCESS"),
    "pool of workers": lambda: pool("PROCESS_POOL"),
    "pool of threads": lambda: pool("THREAD"),
    "policies in a pool": policies_in_pool,
    "pool in policies": pool_in_policies,
    "pool in a pool": pool_in_pool,
}


@pytest.fixture(params=FRONTS)
async def front(request):
    """An executor that lets one command run at a time."""
    async with FRONTS[request.param]() as executor:
        yield executor


async def test_a_pipeline_is_one_command_however_many_stages_it_has(front):
    for result in await asyncio.gather(*(run_pipeline(front, LARGE) for _ in range(3))):
        assert (result.text().strip(), len(result.results), result.pipeline) == ("1000000", 4, LARGE)
    if isinstance(front, CommandPool):
        now = front.statistics()
        assert (now.submitted, now.completed, now.running) == (3, 3, 0)


async def test_a_pipeline_waits_for_its_turn_and_holds_it(front, ready, release):
    holds = sh(f"echo up >'{ready.path}'; read line <'{release.path}'; echo end")
    running = asyncio.ensure_future(run_pipeline(front, holds | CAT))
    await ready.wait()
    waiting = asyncio.ensure_future(front.execute(sh(f"echo up >'{ready.path}'")))
    for _ in range(50):
        await asyncio.sleep(0)
    assert not ready.heard()
    release.send()
    assert (await running).text() == "end\n"
    await waiting
    assert ready.heard()


async def test_what_goes_wrong_in_a_pipeline_is_raised(front):
    with pytest.raises(NonZeroExit) as caught:
        await run_pipeline(front, (CAT | sh("exit 3")).with_options(check=True))
    assert caught.value.result.returncode == 3
    assert (await run_pipeline(front, LARGE)).ok


async def test_a_cancelled_pipeline_is_dead(front, ready):
    stage = f"echo $$ >'{ready.path}'; exec sleep 60"
    running = asyncio.ensure_future(run_pipeline(front, sh(stage) | sh(stage)))
    pids = await ready.pids(2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await assert_dead(*pids)
    assert (await run_pipeline(front, LARGE)).ok


async def test_lines_come_as_they_are_written(front):
    lines = [line async for line in stream_command(sh("echo a; echo b"), executor=front)]
    assert lines == [b"a", b"b"]


async def test_who_talks_to_a_program_holds_its_turn(front, ready):
    async with front.open(CommandConfig("cat")) as process:
        process.stdin.write(b"hello\n")
        assert await process.stdout.read_line() == b"hello\n"
        waiting = asyncio.ensure_future(front.execute(sh(f"echo up >'{ready.path}'")))
        for _ in range(50):
            await asyncio.sleep(0)
        assert not ready.heard()
    await waiting
    assert ready.heard()


async def test_a_pool_that_stops_ends_its_pipelines(ready):
    async with pool("PROCESS_POOL") as made:
        running = asyncio.ensure_future(run_pipeline(made, sh(f"echo $$ >'{ready.path}'; exec sleep 60") | CAT))
        pids = await ready.pids(1)
        await made.stop(drain=False)
        assert isinstance(await outcome(running), TaskCancelled)
        await assert_dead(*pids)


async def test_a_pipeline_is_tried_again_as_a_whole(tmp_path):
    fails_once = sh(f"cat; mkdir '{tmp_path}/tried' && exit 3; exit 0", check=True)
    async with ProcessBackend() as backend:
        executor = Retry(backend, attempts=2, backoff=0)
        result = await run_pipeline(executor, CommandConfig("echo", ["text"]) | fails_once)
    assert (result.text(), result.returncode) == ("text\n", 0)


async def test_a_program_that_somebody_talks_to_is_not_started_again(tmp_path):
    async with ProcessBackend() as backend:
        executor = Retry(backend, attempts=3, backoff=0, retry_if=lambda _: True)
        async with executor.open(sh(f"echo >>'{tmp_path}/runs'; exit 3")) as process:
            assert await process.wait() == 3
    assert (tmp_path / "runs").read_text() == "\n"


class OnlyExecutes:
    async def execute(self, command):
        raise AssertionError("nothing is to be run")


async def test_what_only_runs_commands_to_their_end_is_refused_at_once():
    async with CommandPool(executor=OnlyExecutes()) as made, CommandPoolSeg() as seg:
        for executor in (OnlyExecutes(), policies(OnlyExecutes()), made, policies(made), seg, KeyLimit(seg, 1)):
            with pytest.raises(ExecuteError, match="has no open"):
                await run_pipeline(executor, LARGE)
            with pytest.raises(ExecuteError, match="has no open"):
                await anext(stream_command(CAT, executor=executor))
        assert made.statistics().submitted == 0
