"""Ctrl-C once and twice, SIGTERM, and a reader who leaves."""

import fcntl
import os
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import NamedPipe

from cli.support import CLI, DEADLINE, assert_dead, environment, read_until, running_cli

pytestmark = pytest.mark.slow


def test_ctrl_c_once_drains(ready: NamedPipe, release: NamedPipe) -> None:
    script = f"echo {{}} > {ready.path}; read x < {release.path}; echo done {{}}"
    with running_cli("-j2", "--shell", script, ":::", *"abcdef") as process:
        assert {ready.wait_blocking(), ready.wait_blocking()} == {b"a", b"b"}
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = read_until(process.stderr.fileno(), b"\n")
        assert said == (b"aiocmdpool: interrupted: waiting for 2 running commands; press Ctrl-C again to kill them\n")
        release.send()
        release.send()
        out, err = process.communicate(timeout=DEADLINE)
    assert sorted(out.splitlines()) == [b"done a", b"done b"]
    assert process.returncode == 130
    assert err == b""


def test_ctrl_c_when_all_is_under_way_changes_nothing(ready: NamedPipe, release: NamedPipe) -> None:
    script = f"echo {{}} > {ready.path}; read x < {release.path}; exit 1"
    with running_cli("-j2", "--shell", script, ":::", "a") as process:
        ready.wait_blocking()
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        read_until(process.stderr.fileno(), b"1 running command;")
        release.send()
        assert process.wait(DEADLINE) == 1


@pytest.mark.parametrize("mode", [[], ["--line-buffer"], ["-k"]], ids=["grouped", "line-buffer", "keep-order"])
@pytest.mark.parametrize("script", ["exec sleep 60", "trap '' TERM; sleep 60; sleep 60"], ids=["sleep", "ignores-term"])
def test_ctrl_c_twice_kills(mode: list[str], script: str, ready: NamedPipe) -> None:
    script = f"echo begun; echo $$ > {ready.path}; {script} #"
    with running_cli("-j2", "--grace", "0.3", *mode, "--shell", script, ":::", *"abcd") as process:
        pids = [int(ready.wait_blocking()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        read_until(process.stderr.fileno(), b"again to kill")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert out == b"begun\n" * 2
    assert b"Traceback" not in err
    assert_dead(pids)


def test_sigterm_kills_at_once(ready: NamedPipe) -> None:
    with running_cli("-j2", "--shell", f"echo $$ > {ready.path}; exec sleep 60 #", ":::", *"abcd") as process:
        pids = [int(ready.wait_blocking()) for _ in range(2)]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 143
    assert b"Traceback" not in err
    assert_dead(pids)


def test_ctrl_c_ends_the_wait_for_input() -> None:
    with running_cli("echo") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"a\n")
        read_until(process.stdout.fileno(), b"a\n")
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 130
        assert process.stderr is not None
        assert process.stderr.read() == b"aiocmdpool: interrupted: nothing is running\n"


def test_an_interrupt_that_was_ignored_stays_ignored(ready: NamedPipe, release: NamedPipe) -> None:
    script = f"echo {{}} > {ready.path}; read x < {release.path}; echo done"
    ignoring = ["/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh", *CLI, "--shell", script, ":::", "a"]
    with subprocess.Popen(ignoring, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        ready.wait_blocking()
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        release.send()
        assert process.communicate(timeout=DEADLINE) == (b"done\n", b"")
    assert process.returncode == 0


def test_ctrl_c_twice_leaves_a_reader_who_does_not_read(ready: NamedPipe) -> None:
    script = f"echo ready > {ready.path}; head -c 3000000 /dev/zero #"
    with running_cli("-j1", "--shell", script, ":::", "a") as process:
        assert process.stdout is not None
        ready.wait_blocking()
        assert os.read(process.stdout.fileno(), 1) == b"\0"  # the command has ended; its output is on the way
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        read_until(process.stderr.fileno(), b"nothing is running")
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 130  # the command was done, but not all of its output was delivered


@pytest.mark.parametrize("mode", [[], ["--line-buffer"]], ids=["grouped", "line-buffer"])
def test_a_reader_who_leaves_ends_the_run_quietly(mode: list[str], ready: NamedPipe, tmp_path: Path) -> None:
    script = f"[ {{#}} != 1 ] || {{ echo $$ > {ready.path}; exec sleep 60; }}; echo {{}}"
    with (
        subprocess.Popen(["yes"], stdout=subprocess.PIPE) as endless,
        running_cli("-j2", *mode, "--joblog", tmp_path / "log", "--shell", script, stdin=endless.stdout) as process,
    ):
        assert endless.stdout is not None
        endless.stdout.close()
        pid = int(ready.wait_blocking())
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 2) == b"y\n"
        process.stdout.close()
        assert process.wait(DEADLINE) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert endless.wait(DEADLINE) == -signal.SIGPIPE
    assert_dead([pid])


def test_shared_streams_stay_blocking() -> None:
    with running_cli("echo") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        fds = [f"/proc/{process.pid}/fd/{number}" for number in (0, 1)]
        if not os.path.exists(fds[0]):
            pytest.skip("needs /proc")
        process.stdin.write(b"x\n")
        assert read_until(process.stdout.fileno(), b"x\n") == b"x\n"
        flags = [int(Path(fd.replace("/fd/", "/fdinfo/")).read_text().split("flags:")[1].split()[0], 8) for fd in fds]
        assert not any(flag & os.O_NONBLOCK for flag in flags)
        assert not fcntl.fcntl(process.stdin.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 143
