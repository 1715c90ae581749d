"""`timeout`, `idle_timeout` and `grace`: what ends a command that does not end by itself."""

import asyncio
import signal

import pytest

from aiocmdpool.commands.command import CommandConfig, OutputPolicy, Stdio
from aiocmdpool.commands.errors import CommandTimeout, ExecuteError
from aiocmdpool.commands.result import CommandResult, EndReason

from .support import FOREVER, assert_dead, helper, is_gone, outcome, returns_before_programs_end, sh, with_patience

pytestmark = pytest.mark.slow

KEEP_TAIL = {"max_output": 100_000, "output_policy": OutputPolicy.KEEP_TAIL}

both_loops = pytest.mark.one_loop("asyncio", "uvloop")  # for variants: each costs a deadline


async def ended(backend, command: CommandConfig) -> CommandTimeout:
    with returns_before_programs_end(), pytest.raises(CommandTimeout) as caught:
        await backend.execute(command)
    return caught.value


async def ended_when_ready(
    backend, ready, command: CommandConfig, *, lines: int = 1, deadline: str = "timeout"
) -> tuple[CommandTimeout, list[int]]:
    """The error of a command that was ready at its deadline, and the pids that it said."""

    async def attempt(seconds: float) -> tuple[CommandTimeout, list[int]]:
        error = await ended(backend, command.with_options(**{deadline: seconds}))
        return error, [int(line) for line in ready.heard()]

    return await with_patience(attempt, lambda seen: len(seen[1]) == lines)


async def test_timeout_ends_the_command_and_carries_its_output_so_far(backend, ready):
    error, [pid] = await ended_when_ready(backend, ready, helper("sleep_after_ready", ready.path))
    assert isinstance(error, TimeoutError)
    assert isinstance(error, ExecuteError)
    assert error.end_reason is EndReason.TIMEOUT
    result = error.result
    assert result is not None
    assert error.command is result.command
    assert (result.stdout, result.stderr) == (b"ready", b"so far")
    assert result.returncode == -signal.SIGTERM
    assert result.command.timeout <= result.duration < FOREVER / 2
    assert is_gone(pid)


async def test_the_message_of_a_timeout_names_command_and_deadline(backend):
    command = CommandConfig("sleep", ["60"], timeout=0.125)
    error = await ended(backend, command)
    assert error.command is command
    assert "sleep 60" in str(error)
    assert "0.125" in str(error)
    assert "timeout" in str(error)


async def test_a_program_that_ignores_term_is_killed_after_its_grace(backend, ready):
    error, [pid] = await ended_when_ready(backend, ready, helper("ignore_sigterm", ready.path, grace=0.1))
    result = error.result
    assert result is not None
    assert (result.returncode, result.stdout) == (-signal.SIGKILL, b"stubborn")
    assert result.duration >= result.command.timeout + 0.1
    assert is_gone(pid)


@both_loops
async def test_a_program_that_leaves_within_its_grace_timed_out_all_the_same(backend, ready):
    error, _ = await ended_when_ready(backend, ready, helper("say_goodbye", ready.path, grace=10))
    assert error.end_reason is EndReason.TIMEOUT
    assert error.result is not None
    assert (error.result.returncode, error.result.stdout) == (0, b"goodbye")
    assert not error.result.ok


@both_loops
async def test_a_grace_of_zero_kills_at_once(backend, ready):
    error, _ = await ended_when_ready(backend, ready, helper("ignore_sigterm", ready.path, grace=0))
    assert error.result is not None
    assert error.result.returncode == -signal.SIGKILL


async def test_timeout_ends_the_grandchildren_in_the_group(backend, ready):
    _, pids = await ended_when_ready(backend, ready, helper("grandchildren", ready.path), lines=4)
    await assert_dead(*pids)


@both_loops
async def test_timeout_ends_grandchildren_that_ignore_term_when_the_program_does_not(backend, ready):
    command = helper("grandchildren", ready.path, "stubborn", grace=0.1)
    error, pids = await ended_when_ready(backend, ready, command, lines=4)
    assert error.end_reason is EndReason.TIMEOUT
    await assert_dead(*pids)


@both_loops
async def test_timeout_ends_a_double_forked_grandchild(backend, ready):
    _, pids = await ended_when_ready(backend, ready, helper("double_fork", ready.path, "stay"), lines=2)
    await assert_dead(*pids)


async def test_a_shell_with_a_background_job_leaves_nobody(backend):
    """The measurement that no peer passes: two sleeps, a held pipe, a deadline."""
    command = sh("sleep 60 & echo $!; sleep 60")
    error = await with_patience(
        lambda seconds: ended(backend, command.with_timeout(seconds)), lambda error: bool(error.result.stdout)
    )
    await assert_dead(int(error.result.text()), error.result.pid)


@both_loops
async def test_timeout_ends_a_stopped_program_which_must_go_on_to_see_its_term(backend):
    error = await ended(backend, sh("kill -STOP $$", timeout=0.2, grace=10))
    assert error.end_reason is EndReason.TIMEOUT
    assert error.result is not None
    assert error.result.returncode == -signal.SIGTERM


@both_loops
async def test_timeout_ends_a_program_that_floods_its_output(backend, ready):
    command = helper("flood_stdout", ready.path, grace=0.1, **KEEP_TAIL)
    error, [pid] = await ended_when_ready(backend, ready, command)
    assert error.end_reason is EndReason.TIMEOUT
    assert error.result is not None
    assert error.result.stdout == b"x" * 100_000
    assert is_gone(pid)


@both_loops
async def test_timeout_ends_a_program_that_does_not_read_its_input(backend, ready):
    command = helper("sleep_after_ready", ready.path, stdin=bytes(1_000_000))
    error, [pid] = await ended_when_ready(backend, ready, command)
    assert error.end_reason is EndReason.TIMEOUT
    assert is_gone(pid)


async def test_timeout_ends_a_program_with_its_streams_elsewhere(backend):
    quiet = {"stdout": Stdio.NULL, "stderr": Stdio.NULL}
    error = await ended(backend, CommandConfig("sleep", ["60"], timeout=0.05, **quiet))
    assert error.result is not None
    assert error.result.stdout is error.result.stderr is None


async def test_a_timeout_of_zero_ends_it_at_once(backend):
    error = await ended(backend, CommandConfig("sleep", ["60"], timeout=0))
    assert error.end_reason is EndReason.TIMEOUT


async def test_a_program_that_is_in_time_is_left_alone(backend):
    result = await backend.execute(CommandConfig("echo", ["done"], timeout=30, idle_timeout=30))
    assert (result.stdout, result.end_reason) == (b"done\n", EndReason.EXITED)


@both_loops
async def test_each_command_has_its_own_deadline(backend):
    short = CommandConfig("sleep", ["60"], timeout=0.1)
    long = CommandConfig("sleep", ["0.4"], timeout=30)
    outcomes = await asyncio.gather(*map(backend.execute, (short, long, short)), return_exceptions=True)
    assert isinstance(outcomes[0], CommandTimeout)
    assert outcomes[1].returncode == 0
    assert isinstance(outcomes[2], CommandTimeout)


async def test_silence_past_the_idle_timeout_ends_it(backend, ready):
    command = helper("sleep_after_ready", ready.path)
    error, [pid] = await ended_when_ready(backend, ready, command, deadline="idle_timeout")
    assert isinstance(error, TimeoutError)
    assert error.end_reason is EndReason.IDLE_TIMEOUT
    assert error.result is not None
    assert error.result.stdout == b"ready"
    assert "idle_timeout" in str(error)
    assert is_gone(pid)


@both_loops
async def test_output_on_either_stream_keeps_the_idle_timeout_away(backend):
    """Eight writes, a sixth of it apart, alternately to both streams, so that it would be over by the seventh."""
    script = 'for turn in 1 2 3 4; do sleep "$1"; printf .; sleep "$1"; printf . >&2; done'

    async def attempt(seconds: float) -> CommandResult | CommandTimeout:
        return await outcome(backend.execute(sh(script, f"{seconds / 6:.3f}", idle_timeout=seconds)))

    result = await with_patience(attempt, lambda end: isinstance(end, CommandResult))
    assert (result.returncode, result.stdout, result.stderr) == (0, b"....", b"....")
    assert result.duration > result.command.idle_timeout


async def test_the_first_deadline_is_the_reason(backend):
    error = await ended(backend, CommandConfig("sleep", ["60"], timeout=0.1, idle_timeout=30))
    assert error.end_reason is EndReason.TIMEOUT
    error = await ended(backend, CommandConfig("sleep", ["60"], timeout=30, idle_timeout=0.1))
    assert error.end_reason is EndReason.IDLE_TIMEOUT


async def test_a_timeout_comes_before_check(backend):
    """A command that was ended has a nonzero status, but that is not why it failed."""
    error = await ended(backend, CommandConfig("sleep", ["60"], timeout=0.05, check=True))
    assert error.end_reason is EndReason.TIMEOUT


async def test_a_deadline_that_passes_as_the_program_exits_is_settled_once(backend):
    """Exit and deadline race; either may win, both are clean."""
    commands = [CommandConfig("sleep", [f"0.0{tick}"], timeout=0.05) for tick in range(3, 8)] * 2
    outcomes = await asyncio.gather(*map(backend.execute, commands), return_exceptions=True)
    for end in outcomes:
        assert isinstance(end, CommandTimeout) or end.returncode == 0


@pytest.mark.parametrize("seconds", [1e10, 1e300])
async def test_a_duration_that_nobody_lives_to_see_is_none(backend, seconds):
    options = {"timeout": seconds, "idle_timeout": seconds, "grace": seconds, "leftover_grace": seconds}
    assert (await backend.execute(sh("echo out", **options))).stdout == b"out\n"
    running = asyncio.ensure_future(backend.execute(sh("sleep 60 & wait", **options)))
    await backend.execute(CommandConfig("true"))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
