"""Ctrl-Z: the commands stop with us, and their deadlines; the third Ctrl-C kills."""

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from conftest import NamedPipe

from aiocmdpool.cli.ending import Deadlines
from cli.support import (
    CLI,
    DEADLINE,
    assert_dead,
    environment,
    is_stopped,
    read_until,
    running_cli,
    wait_for_state,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("session", [False, True], ids=["of-the-tests", "of-its-own"])
@pytest.mark.parametrize("prefix", ["exec sh", "setsid sh", "trap '' TSTP; sh"], ids=["plain", "setsid", "ignores"])
def test_a_stop_stops_the_commands_and_their_deadlines(
    session: bool, prefix: str, ready: NamedPipe, release: NamedPipe
) -> None:
    """With a session of its own nobody would continue it, says the kernel; but somebody did send the signal."""
    timeout = 4.0  # seconds
    script = f"{prefix} -c 'echo $$ > {ready.path}; read x < {release.path}; echo $x'; : {{}}"
    with running_cli("--timeout", str(timeout), "--shell", script, ":::", "a", start_new_session=session) as process:
        pid = int(ready.wait_blocking())
        process.send_signal(signal.SIGTSTP)
        wait_for_state(process.pid, is_stopped)
        wait_for_state(pid, is_stopped)
        time.sleep(1.2 * timeout)  # not to wait for anything: to let the deadline pass
        release.send(b"went on")
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out, err) == (0, b"went on\n", b"")


def test_a_command_that_stopped_itself_is_not_continued_by_us(ready: NamedPipe) -> None:
    script = f"echo $$ > {ready.path}; kill -STOP $$ #"
    with running_cli("--shell", script, ":::", "a") as process:
        pid = int(ready.wait_blocking())
        wait_for_state(pid, is_stopped)
        process.send_signal(signal.SIGTSTP)
        wait_for_state(process.pid, is_stopped)
        process.send_signal(signal.SIGCONT)
        wait_for_state(process.pid, lambda state: not is_stopped(state))
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        read_until(process.stderr.fileno(), b"1 running command;")
        assert is_stopped(psutil.Process(pid).status())
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 130
    assert_dead([pid])


def test_a_stop_can_be_repeated(ready: NamedPipe, release: NamedPipe) -> None:
    script = f"echo $$ > {ready.path}; read x < {release.path}; echo {{}}"
    with running_cli("--shell", script, ":::", "done") as process:
        pid = int(ready.wait_blocking())
        for _ in range(3):
            process.send_signal(signal.SIGTSTP)
            wait_for_state(process.pid, is_stopped)
            wait_for_state(pid, is_stopped)
            process.send_signal(signal.SIGCONT)
            wait_for_state(pid, lambda state: not is_stopped(state))
        release.send()
        assert process.communicate(timeout=DEADLINE) == (b"done\n", b"")


def test_killed_while_it_is_stopped_it_leaves_nothing(ready: NamedPipe) -> None:
    with running_cli("--shell", f"echo $$ > {ready.path}; exec sleep 60 #", ":::", "a") as process:
        pid = int(ready.wait_blocking())
        workers = [child.pid for child in psutil.Process(process.pid).children()]
        process.send_signal(signal.SIGTSTP)
        wait_for_state(process.pid, is_stopped)
        process.kill()
        process.wait()
    deadline = time.monotonic() + DEADLINE  # the guardian waits for workers that could act before it does itself
    while any(map(psutil.pid_exists, [pid, *workers])):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("detach", [[], ["--detach"]], ids=["plain", "detach"])
def test_the_third_ctrl_c_kills_at_once(detach: list[str], ready: NamedPipe) -> None:
    """Long before `--grace` is over."""
    script = f"trap '' TERM; echo $$ > {ready.path}; while :; do sleep 60; done #"
    with running_cli("-j2", "--grace", "1h", *detach, "--shell", script, ":::", *"abc") as process:
        pids = [int(ready.wait_blocking()) for _ in range(2)]
        assert process.stderr is not None
        process.send_signal(signal.SIGINT)
        read_until(process.stderr.fileno(), b"again to kill them\n")
        process.send_signal(signal.SIGINT)
        read_until(process.stderr.fileno(), b"ending 2 running commands; press Ctrl-C again to kill them at once\n")
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 130
    assert_dead(pids)


async def test_deadlines_that_are_held_keep_what_was_left() -> None:
    passed: list[object] = []
    deadlines = Deadlines(3600.0, passed.append)
    deadlines.begin("job")  # type: ignore[arg-type]  # any key will do
    go_on = deadlines.hold()
    assert not deadlines._timers
    go_on()
    ((_, due),) = deadlines._timers.values()
    assert 3599 < due - time.monotonic() <= 3600
    deadlines.end("job")  # type: ignore[arg-type]
    assert not deadlines._timers
    assert not passed


def test_what_runs_beside_us_is_not_ours(tmp_path: Path, ready: NamedPipe, release: NamedPipe) -> None:
    """A shell that has started something, and becomes us: its child is not a command."""
    script = f"echo $$ > {ready.path}; read x < {release.path}; : {{}}"
    line = 'sleep 300 & echo $! > "$0"; exec "$@"'
    argv = ["/bin/sh", "-c", line, str(tmp_path / "pid"), *CLI, "--shell", script, ":::", "a"]
    with subprocess.Popen(argv, env=environment(), stderr=subprocess.PIPE) as process:
        pid = int(ready.wait_blocking())
        neighbour = psutil.Process(int((tmp_path / "pid").read_text()))
        try:
            process.send_signal(signal.SIGTSTP)
            wait_for_state(pid, is_stopped)
            wait_for_state(process.pid, is_stopped)
            assert not is_stopped(neighbour.status())
            process.send_signal(signal.SIGCONT)
            release.send()
            assert process.wait(DEADLINE) == 0
            assert neighbour.is_running()
        finally:
            neighbour.kill()
