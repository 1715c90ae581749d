"""On a terminal: the progress bar, the summary, and a Ctrl-C that only we get."""

import contextlib
import os
import pty
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import NamedPipe

from cli.support import CLI, DEADLINE, environment, is_stopped, read_until, wait_for_state

pytestmark = pytest.mark.slow

pytest.importorskip("rich")

WIPE = b"\r\x1b[2K"


@contextlib.contextmanager
def on_terminal(
    *args: str, stdout: int | None = None, **variables: str
) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """`aiocmdpool run` as the session leader of a terminal of its own, and the other end of that.

    Its standard output leads there, too, or elsewhere.
    """
    ours, theirs = pty.openpty()
    variables = {"TERM": "xterm", "COLUMNS": "100", "LINES": "24", **variables}
    process = subprocess.Popen(
        ["setsid", "-c", *CLI, *args],
        stdin=theirs,
        stdout=theirs if stdout is None else stdout,
        stderr=theirs,
        env=environment(**variables),
    )
    os.close(theirs)
    try:
        yield ours, process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(ours)


def rest_of(fd: int) -> bytes:
    heard = b""
    with contextlib.suppress(OSError):  # EIO: everybody has closed the other end
        while piece := os.read(fd, 65536):
            heard += piece
    return heard


def screen(raw: bytes) -> list[str]:
    """The lines that stay on the terminal: what is wiped is gone, colours are not looked at."""
    text = re.sub(rb"\x1b\[[0-9;]*m", b"", raw).replace(b"\r\n", b"\n")
    return [line.rpartition(WIPE)[2].decode() for line in text.split(b"\n")]


def test_the_bar_shows_rate_eta_and_failures_and_leaves_the_output_whole(ready: NamedPipe, release: NamedPipe) -> None:
    script = f"echo line {{}}; [ {{}} != 4 ] || read x < {release.path}; [ {{}} != 2 ]"
    inputs = [str(number) for number in range(1, 9)]
    with on_terminal("-j1", "--shell", script, ":::", *inputs) as (terminal, process):
        heard = read_until(terminal, b"3/8 ")  # an earlier frame may be the first one, on a busy machine
        release.send()
        heard += rest_of(terminal)
        assert process.wait(DEADLINE) == 1
    bars = re.findall(
        r"(\d)/8 [\d.]+/s, ETA [\d.:]+(?: s)?, 1 failed, 1 running", re.sub(r"\x1b\[[0-9;]*m", "", heard.decode())
    )
    assert "3" in bars
    assert WIPE in heard
    lines = screen(heard)
    assert lines[:8] == [f"line {number}" for number in inputs]
    assert lines[8].startswith("aiocmdpool: 8 commands in ")
    assert lines[9].startswith("  failed: input 2: ")
    assert lines[10:] == [""]


@pytest.mark.parametrize(
    ("options", "variables"),
    [(["--no-progress"], {}), (["--quiet"], {}), ([], {"TERM": "dumb"})],
    ids=["no-progress", "quiet", "dumb"],
)
def test_no_bar_where_none_is_wanted(
    options: list[str], variables: dict[str, str], ready: NamedPipe, release: NamedPipe
) -> None:
    script = f"sleep 0.5; echo {{}} > {ready.path}; read x < {release.path}"  # longer than a bar takes to appear
    with on_terminal(*options, "--shell", script, ":::", "1", **variables) as (terminal, process):
        ready.wait_blocking()
        release.send()
        heard = rest_of(terminal)
        assert process.wait(DEADLINE) == 0
    assert b"running" not in heard
    assert WIPE not in heard
    assert (b"aiocmdpool: 1 command in" in heard) == (options != ["--quiet"])


def test_the_terminals_ctrl_c_reaches_us_and_not_the_commands(ready: NamedPipe, release: NamedPipe) -> None:
    script = f"trap 'echo HIT' INT; echo {{}} > {ready.path}; read x < {release.path}; echo done {{}}"
    with on_terminal("-j1", "--no-progress", "--shell", script, ":::", "a", "b") as (terminal, process):
        ready.wait_blocking()
        os.write(terminal, b"\x03")
        heard = read_until(terminal, b"again to kill them")
        release.send()
        heard += rest_of(terminal)
        assert process.wait(DEADLINE) == 130
    assert b"done a" in heard
    assert b"HIT" not in heard


def test_inputs_can_be_typed() -> None:
    with on_terminal("--no-progress", "echo", "got") as (terminal, process):
        read_until(terminal, b"end them with Ctrl-D")
        os.write(terminal, b"one\n")
        read_until(terminal, b"got one")
        os.write(terminal, b"\x04")
        heard = rest_of(terminal)
        assert process.wait(DEADLINE) == 0
    assert b"aiocmdpool: 1 command in" in heard


@pytest.mark.parametrize("kind", ["pipe", "socket", "file", "null"])
@pytest.mark.parametrize("asked", [[], ["--progress"]], ids=["by-itself", "asked-for"])
def test_no_bar_where_somebody_else_may_write_to_the_terminal(
    kind: str, asked: list[str], tmp_path: Path, ready: NamedPipe, release: NamedPipe
) -> None:
    """A program that reads what we write may well show it there."""
    one, other = socket.socketpair()
    read_end, write_end = os.pipe()
    files = {"pipe": write_end, "socket": one.fileno()}
    paths = {"file": tmp_path / "out", "null": Path("/dev/null")}
    stdout = files[kind] if kind in files else os.open(paths[kind], os.O_WRONLY | os.O_CREAT)
    script = f"sleep 0.5; echo {{}} > {ready.path}; read x < {release.path}"  # longer than a bar takes to appear
    shown = bool(asked) or kind in paths
    try:
        with on_terminal(*asked, "--shell", script, ":::", "1", stdout=stdout) as (terminal, process):
            ready.wait_blocking()
            heard = read_until(terminal, b"1 running") if shown else b""
            release.send()
            heard += rest_of(terminal)
            assert process.wait(DEADLINE) == 0
    finally:
        one.close()
        other.close()
        for fd in {read_end, write_end, stdout} - {one.fileno(), -1}:
            with contextlib.suppress(OSError):
                os.close(fd)
    assert (b"running" in heard) == shown
    assert (WIPE in heard) == shown
    assert b"aiocmdpool: 1 command in" in heard


@contextlib.contextmanager
def in_a_shell() -> Iterator[int]:
    """An interactive shell on a terminal of its own, and the other end of that."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    ours, theirs = pty.openpty()
    command = " ".join(map(shlex.quote, CLI))
    variables = {"TERM": "xterm", "COLUMNS": "200", "LINES": "24", "PS1": "shell> ", "RUN": command, "HISTFILE": ""}
    shell = subprocess.Popen(
        ["setsid", "-c", bash, "--norc", "--noprofile", "--noediting", "-i"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(**variables),
    )
    os.close(theirs)
    try:
        read_until(ours, b"shell> ")
        yield ours
        os.write(ours, b"exit\n")
        rest_of(ours)
        shell.wait(DEADLINE)
    finally:
        if shell.poll() is None:
            shell.kill()
            shell.wait()
        os.close(ours)


def test_in_the_background_there_is_no_bar_until_it_comes_to_the_front(ready: NamedPipe, release: NamedPipe) -> None:
    script = f"sleep 0.5; echo {{}} > {ready.path}; read x < {release.path}"
    with in_a_shell() as terminal:
        os.write(terminal, f"$RUN --shell '{script}' ::: 1 &\n".encode())
        ready.wait_blocking()
        os.write(terminal, b"echo ty''ped\n")
        heard = read_until(terminal, b"typed")
        assert b"running" not in heard
        assert WIPE not in heard
        os.write(terminal, b"fg\n")
        read_until(terminal, b"1 running")
        release.send()
        read_until(terminal, b"aiocmdpool: 1 command in")


def test_ctrl_z_takes_the_bar_away_and_stops_the_commands(ready: NamedPipe, release: NamedPipe) -> None:
    script = f"echo $$ > {ready.path}; read x < {release.path}; echo went on"
    with in_a_shell() as terminal:
        os.write(terminal, f"$RUN --shell '{script}; : {{}}' ::: 1\n".encode())
        pid = int(ready.wait_blocking())
        read_until(terminal, b"1 running")
        os.write(terminal, b"\x1a")
        heard = read_until(terminal, b"Stopped")
        assert heard.rpartition(WIPE)[1], "the bar stays"
        assert b"running" not in heard.rpartition(WIPE)[2]
        wait_for_state(pid, is_stopped)
        release.send()
        os.write(terminal, b"fg\n")
        heard = read_until(terminal, b"aiocmdpool: 1 command in")
        assert heard.count(b"went on") == 2  # in the shell's line about the job, and what it wrote


def test_no_bar_in_what_is_being_typed(ready: NamedPipe, release: NamedPipe) -> None:
    script = f"sleep 0.5; echo {{}} > {ready.path}; read x < {release.path}"
    with on_terminal("--shell", script) as (terminal, process):
        read_until(terminal, b"end them with Ctrl-D")
        os.write(terminal, b"one\n")
        ready.wait_blocking()
        release.send()
        os.write(terminal, b"\x04")
        heard = rest_of(terminal)
        assert process.wait(DEADLINE) == 0
    assert WIPE not in heard
    assert b"running" not in heard
