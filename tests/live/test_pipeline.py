"""Pipelines: what they give, how they fail, and that nothing of them stays."""

import asyncio

import pytest
from contract.support import assert_dead, helper, is_gone, outcome, returns_before_programs_end, sh, with_patience

from aiocmdpool.commands.command import CommandConfig, Stdio
from aiocmdpool.commands.errors import (
    CommandTimeout,
    ConfigError,
    IoError,
    NonZeroExit,
    OutputLimitExceeded,
    TaskCancelled,
)
from aiocmdpool.commands.pipeline import Pipeline
from aiocmdpool.commands.result import EndReason
from aiocmdpool.live.pipeline_run import run_pipeline
from aiocmdpool.one_shot_live import execute_pipeline

YES, CAT = CommandConfig("yes"), CommandConfig("cat")


async def test_output_flows_from_stage_to_stage(backend):
    pipeline = CommandConfig("printf", ["b\na\nb\n"]) | CommandConfig("sort") | CommandConfig("uniq", ["-c"])
    result = await run_pipeline(backend, pipeline)
    assert result.text().split() == ["1", "a", "2", "b"]
    assert (result.ok, result.returncode, len(result.results), result.pipeline) == (True, 0, 3, pipeline)
    assert [stage.stdout for stage in result.results[:2]] == [None, None]
    assert [stage.command for stage in result.results] == list(pipeline.stages)
    assert result.duration > 0


async def test_one_liner():
    assert (await execute_pipeline(CommandConfig("echo", ["hello"]) | CommandConfig("rev"))).text() == "olleh\n"


async def test_first_and_last_have_their_own_streams(backend, tmp_path):
    target = tmp_path / "out"
    pipeline = CommandConfig("cat", stdin=b"x" * 100_000) | CAT | CommandConfig("cat", stdout=target)
    result = await run_pipeline(backend, pipeline)
    assert (result.stdout, target.read_bytes()) == (None, b"x" * 100_000)


async def test_stderr_is_that_of_each_stage_or_goes_along(backend):
    result = await run_pipeline(backend, sh("echo a >&2") | sh("cat; echo b >&2"))
    assert (result.stdout, result.stderr) == (b"", (b"a\n", b"b\n"))
    result = await run_pipeline(backend, sh("echo a >&2", stderr=Stdio.MERGED) | CAT)
    assert (result.stdout, result.stderr) == (b"a\n", (None, b""))


async def test_a_head_that_leaves_first_is_no_failure(backend):
    pipeline = YES | CommandConfig("head", ["-n2"])
    with returns_before_programs_end():
        result = await run_pipeline(backend, pipeline.with_options(check=True))
        assert (result.stdout, result.ok, result.results[0].returncode) == (b"y\ny\n", True, -13)
        result = await run_pipeline(backend, pipeline.with_options(pipefail=True))
    assert (result.ok, result.returncode) == (False, -13)


async def test_which_failures_count(backend):
    pipeline = sh("exit 3") | sh("cat; exit 4") | CAT
    assert (await run_pipeline(backend, pipeline)).returncode == 0
    assert (await run_pipeline(backend, pipeline.with_options(pipefail=True))).returncode == 4
    assert (await run_pipeline(backend, CAT | sh("exit 5"))).returncode == 5


async def test_check_raises_for_a_stage_that_counts(backend):
    checked = sh("echo sorry >&2; exit 3", check=True)
    assert (await run_pipeline(backend, checked | CAT)).ok
    for pipeline in ((checked | CAT).with_options(pipefail=True), CAT | checked):
        with pytest.raises(NonZeroExit, match="exit status 3: sorry") as caught:
            await run_pipeline(backend, pipeline)
        assert caught.value.result.returncode == 3
    with pytest.raises(NonZeroExit):
        await run_pipeline(backend, (CAT | sh("exit 1")).with_options(check=True))


@pytest.mark.parametrize("place", range(3))
async def test_a_stage_that_cannot_start_ends_all(backend, place):
    stages = [YES, CAT, CommandConfig("sleep", ["60"])]
    stages[place] = CommandConfig("no-such-program")
    with returns_before_programs_end(), pytest.raises(IoError, match="no-such-program"):
        await run_pipeline(backend, Pipeline(stages))


async def test_one_deadline_for_all(backend, ready):
    pipeline = helper("grandchildren", ready.path) | CAT | CAT

    async def attempt(seconds: float) -> tuple[float, object, list[bytes]]:
        return seconds, await outcome(run_pipeline(backend, pipeline.with_options(timeout=seconds))), ready.heard()

    seconds, error, said = await with_patience(attempt, lambda seen: len(seen[2]) == 4)
    pids = map(int, said)
    assert isinstance(error, CommandTimeout)
    assert f"its timeout of {seconds:g} s" in str(error)
    assert error.end_reason is EndReason.TIMEOUT
    await assert_dead(*pids)


async def test_the_deadline_of_a_stage_ends_all(backend):
    pipeline = YES | CommandConfig("sleep", ["60"], timeout=0.05) | CAT
    with returns_before_programs_end(), pytest.raises(CommandTimeout, match="sleep 60"):
        await run_pipeline(backend, pipeline)


async def test_too_much_output_ends_all(backend):
    with pytest.raises(OutputLimitExceeded):
        await run_pipeline(backend, YES | CommandConfig("cat", max_output=1000))


async def test_cancelling_ends_all_before_it_leaves(backend, ready):
    stubborn = helper("ignore_sigterm", ready.path, grace=0.1)
    running = asyncio.create_task(run_pipeline(backend, stubborn | stubborn | stubborn))
    pids = await ready.pids(3)
    for _ in range(3):
        running.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert all(map(is_gone, pids))


@pytest.mark.parametrize("turns", range(8))
async def test_it_can_be_cancelled_at_any_turn(backend, turns):
    running = asyncio.create_task(run_pipeline(backend, YES | CAT | CommandConfig("sleep", ["60"])))
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    with returns_before_programs_end(), pytest.raises(asyncio.CancelledError):
        await running


async def test_closing_the_backend_ends_all(backend, ready):
    running = asyncio.create_task(outcome(run_pipeline(backend, helper("sleep_after_ready", ready.path) | CAT)))
    await ready.wait()
    await backend.aclose()
    assert isinstance(await running, TaskCancelled)


async def test_no_byte_passes_through_this_process(backend):
    size = 50_000_000
    result = await run_pipeline(
        backend, CommandConfig("head", [f"-c{size}", "/dev/zero"]) | CommandConfig("wc", ["-c"])
    )
    assert int(result.text()) == size


def test_joining():
    a, b, c, d = (CommandConfig(name) for name in "abcd")
    assert (a | b | c).stages == (a, b, c)
    assert (a | (b | c)).stages == (a, b, c)
    options = (a | b).with_options(pipefail=True, timeout=5)
    assert options | c == Pipeline((a, b, c), pipefail=True, timeout=5.0)
    assert d | options == Pipeline((d, a, b), pipefail=True, timeout=5.0)
    assert (a | b).display() == "a | b"
    with pytest.raises(TypeError):
        _ = a | "b"
    with pytest.raises(ConfigError, match="Join commands"):
        _ = options | options


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: CAT | CommandConfig("cat", stdin=b"x"), "stdin"),
        (lambda: CommandConfig("cat", stdout=Stdio.NULL) | CAT, "stdout"),
        (lambda: CommandConfig("cat", idle_timeout=1) | CAT, "idle_timeout"),
        (lambda: Pipeline((CAT,)), "stages"),
        (lambda: Pipeline((CAT, "cat")), "stages"),
        (lambda: Pipeline((CAT, CAT), timeout=-1), "timeout"),
        (lambda: Pipeline((CAT, CAT), pipefail=1), "pipefail"),
    ],
)
def test_misuse_is_a_named_error(make, field):
    with pytest.raises(ConfigError) as caught:
        make()
    assert caught.value.field == field
