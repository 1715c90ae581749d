"""`max_output` and its policies: memory is bounded by what the command says, not by what the program writes."""

import ast

import pytest

from aiocmdpool.commands.command import CommandConfig, OutputPolicy, Stdio
from aiocmdpool.commands.errors import ChildError, OutputLimitExceeded
from aiocmdpool.commands.result import EndReason

from .support import assert_dead, helper, is_gone, pattern, returns_before_programs_end, run_host, sh

LIMIT = 100_000
KEEPING = [OutputPolicy.KEEP_HEAD, OutputPolicy.KEEP_TAIL]


@pytest.mark.parametrize("policy", list(OutputPolicy))
@pytest.mark.parametrize("count", [0, LIMIT - 1, LIMIT])
async def test_output_up_to_the_limit_is_whole(backend, policy, count):
    result = await backend.execute(helper("write_n_bytes", count, "both", max_output=LIMIT, output_policy=policy))
    assert result.stdout == result.stderr == pattern(count)
    assert not result.truncated


@pytest.mark.parametrize("count", [LIMIT + 1, 3 * LIMIT])
async def test_one_byte_more_fails_with_the_head(backend, count):
    command = helper("write_n_bytes", count, max_output=LIMIT)
    with pytest.raises(OutputLimitExceeded) as caught:
        await backend.execute(command)
    error = caught.value
    assert isinstance(error, ChildError)
    assert error.command is command
    assert error.end_reason is EndReason.OUTPUT_LIMIT
    assert error.result is not None
    assert error.result.stdout == pattern(count)[:LIMIT]
    assert error.result.truncated
    assert str(LIMIT) in str(error)
    assert "max_output" in str(error)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_a_flood_is_ended_at_the_limit(backend, ready, stream):
    with returns_before_programs_end(), pytest.raises(OutputLimitExceeded) as caught:
        await backend.execute(helper("flood_stdout", ready.path, stream, max_output=2_000_000))
    result = caught.value.result
    assert result is not None
    assert getattr(result, stream) == b"x" * 2_000_000
    assert is_gone(int(await ready.wait()))


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("count", [LIMIT + 1, 2 * LIMIT, 2 * LIMIT + 1, 1_000_000])
async def test_keep_head_keeps_the_first_bytes_and_lets_the_program_end(backend, count, stream):
    options = {"max_output": LIMIT, "output_policy": OutputPolicy.KEEP_HEAD}
    result = await backend.execute(helper("write_n_bytes", count, stream, **options))
    assert getattr(result, stream) == pattern(count)[:LIMIT]
    assert (result.returncode, result.truncated, result.end_reason) == (0, True, EndReason.EXITED)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("count", [LIMIT + 1, 2 * LIMIT, 2 * LIMIT + 1, 1_000_000])
async def test_keep_tail_keeps_the_last_bytes_and_lets_the_program_end(backend, count, stream):
    options = {"max_output": LIMIT, "output_policy": OutputPolicy.KEEP_TAIL}
    result = await backend.execute(helper("write_n_bytes", count, stream, **options))
    assert getattr(result, stream) == pattern(count)[-LIMIT:]
    assert (result.returncode, result.truncated, result.end_reason) == (0, True, EndReason.EXITED)


async def test_the_limit_holds_for_each_stream_by_itself(backend):
    result = await backend.execute(helper("write_n_bytes", LIMIT, "both", max_output=LIMIT))
    assert len(result.stdout) == len(result.stderr) == LIMIT


async def test_the_limit_holds_for_merged_streams_together(backend):
    with pytest.raises(OutputLimitExceeded):
        await backend.execute(helper("write_n_bytes", LIMIT, "both", max_output=LIMIT, stderr=Stdio.MERGED))
    result = await backend.execute(helper("write_n_bytes", LIMIT, "both", max_output=2 * LIMIT, stderr=Stdio.MERGED))
    assert result.stdout == pattern(LIMIT) * 2


@pytest.mark.parametrize("policy", KEEPING)
async def test_a_limit_of_zero_keeps_nothing(backend, policy):
    result = await backend.execute(CommandConfig("echo", max_output=0, output_policy=policy))
    assert (result.stdout, result.truncated, result.returncode) == (b"", True, 0)


async def test_a_limit_of_zero_fails_at_the_first_byte(backend):
    with pytest.raises(OutputLimitExceeded):
        await backend.execute(CommandConfig("echo", max_output=0))
    assert (await backend.execute(CommandConfig("true", max_output=0))).ok


async def test_no_limit_is_none(backend):
    result = await backend.execute(helper("write_n_bytes", 3_000_000, max_output=None))
    assert result.stdout == pattern(3_000_000)


async def test_the_limit_does_not_hold_for_what_is_not_captured(backend, tmp_path):
    result = await backend.execute(helper("write_n_bytes", LIMIT, stdout=tmp_path / "out", max_output=1))
    assert (result.returncode, result.truncated) == (0, False)
    assert (tmp_path / "out").read_bytes() == pattern(LIMIT)


async def test_the_limit_ends_the_whole_group(backend):
    with returns_before_programs_end(), pytest.raises(OutputLimitExceeded) as caught:
        await backend.execute(sh("sleep 60 & echo $!; exec cat /dev/zero", max_output=LIMIT))
    assert caught.value.result is not None
    pid, _, _ = caught.value.result.stdout.partition(b"\n")
    await assert_dead(int(pid))


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(("policy", "stream"), [(KEEPING[0], "stdout"), (KEEPING[1], "stderr")])
def test_a_quarter_of_a_gigabyte_under_a_cap_of_a_mebibyte(backend_name, loop, policy, stream):
    host = run_host("bounded_memory", backend_name, loop, policy.value, stream)
    returncode, kept, truncated, grown = ast.literal_eval(host.stdout)
    assert (returncode, kept, truncated) == (0, 1024 * 1024, True)
    assert grown < 24, f"the peak memory grew by {grown} MiB"
