"""How commands are asked to end, and how long they have: `stop_signal`, the grace of the whole group, `killed_by`."""

import asyncio
import signal

import pytest

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import CommandTimeout, OutputLimitExceeded, TaskCancelled
from aiocmdpool.commands.result import CommandResult, EndReason, KillTier

from .support import argv_of, assert_dead, helper, is_gone, outcome, returns_before_programs_end, sh, with_patience

pytestmark = pytest.mark.slow

QUIET = 0.1  # seconds; only a bound on how long nothing may happen
HEARD_WITHIN = 1.5  # seconds of grace in which a program on a busy machine says that it was asked

both_loops = pytest.mark.one_loop("asyncio", "uvloop")  # for variants: each costs a start and a grace


async def cancelled(backend, running: "asyncio.Task") -> CommandResult:
    running.cancel()
    with returns_before_programs_end(), pytest.raises(asyncio.CancelledError) as caught:
        await running
    assert isinstance(caught.value.__cause__, TaskCancelled)
    return caught.value.__cause__.result


async def closed(backend, running: "asyncio.Task") -> CommandResult:
    with returns_before_programs_end():
        await backend.aclose()
    error = await outcome(running)
    assert isinstance(error, TaskCancelled)
    return error.result


endings = pytest.mark.parametrize("end", [cancelled, closed])


async def timed_out(backend, ready, command: CommandConfig) -> tuple[CommandResult, list[bytes]]:
    """The result of a command that had got ready by its deadline, and what it said."""

    async def attempt(seconds: float) -> tuple[CommandResult, list[bytes]]:
        with returns_before_programs_end(), pytest.raises(CommandTimeout) as caught:
            await backend.execute(command.with_timeout(seconds))
        return caught.value.result, ready.heard()

    return await with_patience(attempt, lambda seen: len(seen[1]) > 1)


async def nothing_happens_to(ending: "asyncio.Future") -> None:
    done, _ = await asyncio.wait([ending], timeout=QUIET)
    assert not done


# -- the stop signal ----


@endings
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGINT, signal.SIGTERM])
@both_loops
async def test_a_program_gets_its_stop_signal_and_after_the_grace_kill(backend, ready, end, number):
    command = helper("note_signals", ready.path, stop_signal=number, grace=HEARD_WITHIN)
    running = asyncio.ensure_future(backend.execute(command))
    pid = int(await ready.wait())
    result = await end(backend, running)
    assert (result.stdout.decode(), result.returncode) == (f"{number.name}\n", -signal.SIGKILL)
    assert ready.heard() == [number.name.encode()]
    assert result.killed_by is KillTier.GROUP
    assert is_gone(pid)


@both_loops
async def test_at_its_deadline_a_program_gets_its_stop_signal(backend, ready):
    command = helper("note_signals", ready.path, stop_signal=signal.SIGHUP, grace=HEARD_WITHIN)
    result, said = await timed_out(backend, ready, command)
    assert (result.stdout, result.returncode) == (b"SIGHUP\n", -signal.SIGKILL)
    assert said[1:] == [b"SIGHUP"]


@endings
async def test_a_stop_signal_that_ends_the_program_is_how_it_died(backend, ready, end):
    running = asyncio.ensure_future(
        backend.execute(helper("sleep_after_ready", ready.path, stop_signal=signal.SIGUSR2, grace=60))
    )
    await ready.wait()
    result = await end(backend, running)
    assert result.signal is signal.SIGUSR2
    assert result.killed_by is KillTier.GROUP


async def test_a_stop_signal_of_kill_asks_nobody(backend, ready):
    running = asyncio.ensure_future(
        backend.execute(helper("note_signals", ready.path, stop_signal=signal.SIGKILL, grace=60))
    )
    await ready.wait()
    result = await cancelled(backend, running)
    assert (result.stdout, result.returncode) == (b"", -signal.SIGKILL)


async def test_all_of_the_group_gets_the_stop_signal(backend, ready):
    """In a shell SIGHUP ends the background job and the one in front, neither of which it would pass it on to."""
    script = '"$@" & "$@"; :'
    command = sh(script, *argv_of("note_signals", ready.path), stop_signal=signal.SIGHUP, grace=HEARD_WITHIN)
    running = asyncio.ensure_future(backend.execute(command))
    pids = await ready.pids(2)
    result = await cancelled(backend, running)
    assert (result.stdout, result.signal) == (b"SIGHUP\n" * 2, signal.SIGHUP)
    await assert_dead(*pids)


@both_loops
async def test_silence_and_too_much_output_are_ended_by_the_stop_signal_as_well(backend, ready):
    silent = CommandConfig("sleep", ["60"], idle_timeout=0.05, stop_signal=signal.SIGUSR1)
    loud = helper("flood_stdout", "/dev/null", max_output=1000, stop_signal=signal.SIGUSR1)
    silence, flood = await asyncio.gather(outcome(backend.execute(silent)), outcome(backend.execute(loud)))
    assert (type(silence), silence.end_reason) == (CommandTimeout, EndReason.IDLE_TIMEOUT)
    assert isinstance(flood, OutputLimitExceeded)
    assert silence.result.signal is flood.result.signal is signal.SIGUSR1


@both_loops
async def test_a_program_that_runs_after_preparation_gets_its_stop_signal(backend, ready):
    command = helper("note_signals", ready.path, stop_signal=signal.SIGINT, grace=HEARD_WITHIN, niceness=1)
    running = asyncio.ensure_future(backend.execute(command))
    await ready.wait()
    result = await cancelled(backend, running)
    assert (result.stdout, result.returncode) == (b"SIGINT\n", -signal.SIGKILL)


# -- the grace of the group ----


@endings
async def test_a_child_of_a_shell_has_the_grace_to_clean_up(backend, ready, release, end):
    """The shell dies of TERM at once."""
    command = sh('"$@" & wait', *argv_of("clean_up_when_asked", ready.path, release.path), grace=60)
    running = asyncio.ensure_future(backend.execute(command))
    pid = int(await ready.wait())
    ending = asyncio.ensure_future(end(backend, running))
    assert await ready.wait() == b"asked"
    await nothing_happens_to(ending)
    assert not is_gone(pid)
    release.send()
    result = await ending
    assert (result.stdout, result.returncode) == (b"bye", -signal.SIGTERM)
    assert (result.leaked, result.killed_by) == ((), KillTier.GROUP)
    await assert_dead(pid)


@both_loops
async def test_at_the_deadline_of_a_shell_its_child_has_the_grace_to_clean_up(backend, ready, release):
    command = sh('"$@" & wait', *argv_of("clean_up_when_asked", ready.path, release.path), grace=60)

    async def attempt(seconds: float) -> tuple[CommandResult, list[bytes]]:
        running = asyncio.ensure_future(outcome(backend.execute(command.with_timeout(seconds))))
        await asyncio.wait([running], timeout=seconds + QUIET)
        release.send()
        error = await running
        assert isinstance(error, CommandTimeout)
        return error.result, ready.heard()

    with returns_before_programs_end():
        result, said = await with_patience(attempt, lambda seen: len(seen[1]) > 1)
    assert (result.stdout, said[1:]) == (b"bye", [b"asked"])
    await assert_dead(int(said[0]))


@endings
@both_loops
async def test_a_child_of_a_shell_that_ignores_term_is_killed_after_the_grace(backend, ready, end):
    command = sh('"$@" & wait', *argv_of("note_signals", ready.path), grace=HEARD_WITHIN)
    running = asyncio.ensure_future(backend.execute(command))
    pid = int(await ready.wait())
    result = await end(backend, running)
    assert (result.stdout, result.returncode) == (b"SIGTERM\n", -signal.SIGTERM)
    assert ready.heard() == [b"SIGTERM"]
    await assert_dead(pid)


@both_loops
async def test_a_second_cancellation_does_not_cut_the_grace_of_a_child_short(backend, ready, release):
    command = sh('"$@" & wait', *argv_of("clean_up_when_asked", ready.path, release.path), grace=60)
    running = asyncio.ensure_future(backend.execute(command))
    await ready.wait()
    running.cancel()
    assert await ready.wait() == b"asked"
    running.cancel()
    await nothing_happens_to(running)
    release.send()
    result = await cancelled(backend, running)
    assert result.stdout == b"bye"


# -- what it took ----


@pytest.mark.parametrize("script", ["true", "exit 3", "kill -TERM $$", "sleep 0.01 & wait", "setsid true; :"])
@both_loops
async def test_nothing_had_to_be_ended(backend, script):
    result = await backend.execute(sh(script))
    assert (result.killed_by, result.leaked) == (None, ())


@pytest.mark.parametrize("how", [(), ("session",)])
async def test_what_left_the_group_is_told_from_what_did_not(backend, ready, how):
    tier = KillTier.DESCENDANTS if how else KillTier.GROUP
    result = await backend.execute(helper("double_fork", ready.path, "leave", *how))
    assert result.killed_by is tier
    await assert_dead(*await ready.pids(2))
    running = asyncio.ensure_future(backend.execute(helper("double_fork", ready.path, "stay", *how)))
    pids = await ready.pids(2)
    result = await cancelled(backend, running)
    assert result.killed_by is tier
    await assert_dead(*pids)


@both_loops
async def test_a_deadline_says_what_it_took(backend):
    error = await outcome(backend.execute(CommandConfig("sleep", ["60"], timeout=0.05)))
    assert error.result.killed_by is KillTier.GROUP
