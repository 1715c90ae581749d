"""What a command writes is what comes out, byte for byte, however long its lines and however much of it there is."""

import functools
import resource
import subprocess
from pathlib import Path

import psutil
import pytest
from conftest import NamedPipe

from cli.support import CLI, DEADLINE, environment, run_cli, running_cli

pytestmark = pytest.mark.slow

MODES = [[], ["-k"], ["--line-buffer"], ["--line-buffer", "-k"]]
NAMES = ["grouped", "keep-order", "line-buffer", "line-buffer-keep-order"]
LONG = b"x" * 3_000_000 + b"\n"
NO_END = b"first\n\xff\0\r" + b"y" * 70_000
MODEST = 90 * 1024 * 1024  # bytes of memory; the output alone would take more
MUCH = 150_000_000  # bytes


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("mode", MODES, ids=NAMES)
def test_not_a_byte_is_changed(mode: list[str], stream: str, tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(LONG)
    (tmp_path / "no-end").write_bytes(NO_END)
    (tmp_path / "empty").write_bytes(b"")
    names = ["long", "no-end", "empty", "long", "no-end"]
    script = "cat {} >&2" if stream == "stderr" else "cat {}"
    run = run_cli("-j1", *mode, "--shell", script, ":::", *(str(tmp_path / name) for name in names))
    assert run.returncode == 0
    assert getattr(run, stream) == b"".join((tmp_path / name).read_bytes() for name in names)


def test_a_neighbour_does_not_break_a_long_line(ready: NamedPipe, release: NamedPipe) -> None:
    half = 2_000_000
    script = f"head -c {half} /dev/zero; echo > {ready.path}; read x < {release.path}; head -c {half} /dev/zero; echo"
    with running_cli("-j2", "--line-buffer", "--shell", f"{script}; : {{}}", ":::", "a", "b") as process:
        for _ in range(2):  # both are in the middle of their lines
            ready.wait_blocking()
        for _ in range(2):
            release.send()
        out, _ = process.communicate(timeout=DEADLINE)
    assert out == (b"\0" * (2 * half) + b"\n") * 2


@pytest.mark.parametrize("mode", MODES, ids=NAMES)
def test_much_output_kills_no_command_and_takes_no_memory(
    mode: list[str], ready: NamedPipe, release: NamedPipe, tmp_path: Path
) -> None:
    """All of it has been read before the end of the command, and is kept where it costs no memory."""
    script = f"head -c {MUCH} /dev/zero; echo > {ready.path}; read x < {release.path}; : {{}}"
    with (
        open(tmp_path / "out", "wb") as out,
        running_cli(*mode, "--shell", script, ":::", "a", stdout=out) as process,
    ):
        ready.wait_blocking()
        assert psutil.Process(process.pid).memory_info().rss < MODEST
        release.send()
        assert process.wait(DEADLINE) == 0
    assert (tmp_path / "out").stat().st_size == MUCH


def test_large_output_is_tagged_and_kept_in_order(tmp_path: Path) -> None:
    lines = 400_000
    script = f"yes {{}} | head -n {lines}"
    run = run_cli("-k", "-j2", "--tag", "--shell", script, ":::", "ab", "cd")
    assert run.stdout == b"ab\tab\n" * lines + b"cd\tcd\n" * lines


def test_of_an_attempt_that_is_tried_again_large_output_is_dropped(tmp_path: Path) -> None:
    script = f"head -c 2000000 /dev/zero; echo >> {tmp_path}/{{}}; [ $(wc -l < {tmp_path}/{{}}) = 2 ]"
    run = run_cli("--retries", "1", "--shell", script, ":::", "a", "b")
    assert (run.returncode, len(run.stdout)) == (0, 4_000_000)


def test_output_that_cannot_be_kept_fails_its_command_alone() -> None:
    """A limit on the size of files is a full disk."""
    small = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
    script = "[ {} != 2 ] || yes; echo {}"
    run = run_cli("-k", "-j1", "--shell", script, ":::", "1", "2", "3", preexec_fn=small)
    assert run.returncode == 1
    assert run.stdout.startswith(b"1\ny\n")
    assert run.stdout.endswith(b"3\n")
    assert b"input 2: " in run.stderr
    assert b"File too large; make room there, or set TMPDIR to another directory" in run.stderr


@pytest.mark.parametrize("mode", MODES, ids=NAMES)
def test_a_limit_on_output_speaks_of_the_option(mode: list[str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    run = run_cli(*mode, "--max-output", "1MB", "--joblog", log, "--shell", "yes; true #", ":::", "1")
    assert run.returncode == 1
    assert run.stdout == b"y\n" * (512 * 1024)
    assert b"wrote more than its --max-output of 1M" in run.stderr
    assert b"max_output" not in run.stderr
    assert b'"end_reason":"output_limit"' in log.read_bytes()


def test_as_much_as_the_limit_is_no_failure() -> None:
    run = run_cli("--max-output", "4", "printf", ":::", "abcd")
    assert (run.returncode, run.stdout, run.stderr) == (0, b"abcd", b"")
    over = run_cli("--max-output", "3", "printf", ":::", "abcd")  # it has ended by itself before anybody could end it
    assert (over.returncode, over.stdout) == (1, b"abc")


def test_spools_leave_nothing_behind(tmp_path: Path) -> None:
    argv = [*CLI, "-j2", "head", "-c", "3000000", ":::", "/dev/zero", "/dev/zero"]
    run = subprocess.run(argv, env=environment(TMPDIR=str(tmp_path)), capture_output=True, timeout=DEADLINE)
    assert len(run.stdout) == 6_000_000
    assert list(tmp_path.iterdir()) == []
