"""`detach`: a daemon that a command leaves running lives on, and the result does not wait for it."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import CommandTimeout
from aiocmdpool.commands.result import EndReason

from .backends import BACKENDS
from .support import adopting, assert_dead, helper, is_dead, outcome, returns_before_programs_end, sh, with_patience

pytestmark = pytest.mark.slow

both_loops = pytest.mark.one_loop("asyncio", "uvloop")

QUIET = "</dev/null >/dev/null 2>&1"
DAEMON = 'sh -c \'echo $$ >"$1"; echo >"$2"; exec sleep 60\' sh "$1" "$2"'
LAUNCHERS = {
    "in the group": f"{DAEMON} {QUIET} &",
    "in a session": f"setsid {DAEMON} {QUIET} &",
    "double fork": f"setsid -f {DAEMON} {QUIET};",
    "without environment": f"setsid env -i {DAEMON} {QUIET} &",
}


def daemon(ready, release, launch: str, then: str = "echo started", **options) -> CommandConfig:
    """The daemon says its pid, and then the command goes on."""
    return sh(f'{launch} read x <"$2"; {then}', ready.path, release.path, detach=True, **options)


@pytest.fixture(autouse=True)
def adopted(leak_guard: None) -> Iterator[None]:
    """What a daemon leaves when it is ended, its subreaper above all, outlives the worker as it has done."""
    with adopting():
        yield


@contextlib.contextmanager
def killed_at_the_end(pid: int) -> Iterator[None]:
    """The daemon is ours to end; it must still be there."""
    try:
        yield
        assert not is_dead(pid), "the daemon is dead"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # it is our child where we are PID 1, or a subreaper
            os.waitpid(pid, 0)


async def started(backend, ready, release, launch: str, **options):
    """Run a command that leaves a daemon; its result, and the pid of the daemon."""
    with returns_before_programs_end():
        result = await backend.execute(daemon(ready, release, launch, **options))
    return result, int(await ready.wait())


@pytest.mark.parametrize("launch", LAUNCHERS.values(), ids=LAUNCHERS)
async def test_a_daemon_lives_on_and_is_no_leak(backend_name, ready, release, launch):
    async with BACKENDS[backend_name]() as backend:
        result, pid = await started(backend, ready, release, launch)
        with killed_at_the_end(pid):
            assert (result.stdout, result.returncode) == (b"started\n", 0)
            assert (result.leaked, result.killed_by, result.end_reason) == ((), None, EndReason.EXITED)
            assert (await backend.execute(sh("echo others"))).leaked == ()
            assert not is_dead(pid)
            await backend.aclose()
    await assert_dead(pid)


@both_loops
async def test_a_daemon_whose_command_fails_lives_on_as_well(backend, ready, release):
    result, pid = await started(backend, ready, release, LAUNCHERS["in a session"], then="exit 7", niceness=1)
    with killed_at_the_end(pid):
        assert (result.returncode, result.leaked) == (7, ())
    await assert_dead(pid)


@pytest.mark.parametrize("launch", [f"{DAEMON} &", f"setsid {DAEMON} &"], ids=["in the group", "in a session"])
async def test_a_daemon_that_holds_the_pipes_does_not_hold_the_result(backend, ready, release, launch):
    result, pid = await started(backend, ready, release, launch)
    with killed_at_the_end(pid):
        assert (result.stdout, result.leaked, result.killed_by) == (b"started\n", (), None)
    await assert_dead(pid)


@both_loops
async def test_a_daemon_of_a_command_that_is_ended_is_ended_with_it(backend, ready, release):
    for launch in (f"setsid {DAEMON} &", f"{DAEMON} {QUIET} &"):
        running = asyncio.ensure_future(backend.execute(daemon(ready, release, launch, "sleep 60")))
        pid = int(await ready.wait())
        running.cancel()
        with returns_before_programs_end():
            assert isinstance(await outcome(running), asyncio.CancelledError)
        await assert_dead(pid)


@both_loops
async def test_a_daemon_of_a_command_that_times_out_is_ended_with_it(backend, ready, release):
    command = daemon(ready, release, LAUNCHERS["double fork"], "sleep 60")

    async def attempt(seconds: float) -> tuple[object, list[bytes]]:
        return await outcome(backend.execute(command.with_timeout(seconds))), ready.heard()

    with returns_before_programs_end():
        error, said = await with_patience(attempt, lambda seen: len(seen[1]) == 1)
    assert isinstance(error, CommandTimeout)
    await assert_dead(int(said[0]))


async def test_a_daemon_of_a_backend_that_is_closed_meanwhile_is_ended_with_its_command(backend, ready, release):
    running = asyncio.ensure_future(backend.execute(daemon(ready, release, LAUNCHERS["in a session"], "sleep 60")))
    pid = int(await ready.wait())
    with returns_before_programs_end():
        await backend.aclose()
    await outcome(running)
    await assert_dead(pid)


async def test_what_others_leave_dies_all_the_same(backend, ready, release):
    _, pid = await started(backend, ready, release, LAUNCHERS["in a session"])
    with killed_at_the_end(pid):
        for how in ((), ("session",)):
            result = await backend.execute(helper("double_fork", ready.path, "leave", *how))
            escaped, _ = await ready.pids(2)
            assert [leak.pid for leak in result.leaked] == [escaped]
            await assert_dead(escaped)
    await assert_dead(pid)


@both_loops
async def test_what_a_daemon_starts_later_lives_on_when_the_daemon_is_gone(backend, ready, release, tmp_path):
    """It comes back to whoever looks after orphans, long after the command."""
    with adopting():
        later, script = tmp_path / "later", tmp_path / "daemon.sh"
        os.mkfifo(later)
        told = os.open(later, os.O_RDWR)
        script.write_text('echo >"$2"; read x <"$3"; sh -c \'echo $$ >"$1"; exec sleep 60\' sh "$1" &')
        launch = f'setsid sh "$4" "$1" "$2" "$3" {QUIET} & read x <"$2"'
        result = await backend.execute(sh(launch, ready.path, release.path, str(later), str(script), detach=True))
        assert (result.returncode, result.leaked) == (0, ())
        os.write(told, b"go\n")
        pid = int(await ready.wait())
        os.close(told)
        with killed_at_the_end(pid):
            for _ in range(3):
                assert (await backend.execute(helper("double_fork", ready.path, "leave", "session"))).leaked
                await ready.pids(2)
        await assert_dead(pid)
