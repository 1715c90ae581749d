"""`--trace`: a timeline of the run, valid whatever ends it, and an error where it cannot be written."""

import functools
import json
import os
import resource
import signal
from pathlib import Path

import pytest
from conftest import NamedPipe

from cli.support import DEADLINE, read_until, run_cli, running_cli

pytestmark = pytest.mark.slow


def runs(path: Path) -> list[dict[str, object]]:
    return [event for event in json.loads(path.read_text()) if event["ph"] == "X"]


def test_every_command_is_in_it(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    done = run_cli("--trace", trace, "-j2", "sh", "-c", "exit $0", ":::", *"0120")
    assert done.returncode == 2
    assert sorted(run["args"]["returncode"] for run in runs(trace)) == [0, 0, 1, 2]  # type: ignore[index]
    assert {run["tid"] for run in runs(trace)} <= {1, 2}
    assert {run["name"] for run in runs(trace)} == {f"sh -c 'exit $0' {number}" for number in "012"}


def test_every_attempt_is_in_it(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    run_cli("--trace", trace, "--retries", "2", "false", ":::", "a")
    assert len(runs(trace)) == 3


def test_a_trace_begins_anew(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for _ in range(2):
        assert run_cli("--trace", trace, "true", ":::", "a").returncode == 0
        assert len(runs(trace)) == 1


def test_a_dry_run_writes_none(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    assert run_cli("--trace", trace, "--dry-run", "true", ":::", "a").returncode == 0
    assert not trace.exists()


def test_the_help_tells_of_it() -> None:
    said = run_cli("--help").stdout
    assert b"--trace FILE" in said
    assert b"ui.perfetto.dev" in said


@pytest.mark.parametrize("presses", [1, 2])
def test_it_is_whole_after_ctrl_c(presses: int, tmp_path: Path, ready: NamedPipe, release: NamedPipe) -> None:
    trace = tmp_path / "trace"
    script = f"echo {{}} > {ready.path}; read x < {release.path}"
    with running_cli("--trace", trace, "-j2", "--shell", script, ":::", *"abcd") as process:
        assert {ready.wait_blocking(), ready.wait_blocking()} == {b"a", b"b"}
        assert process.stderr is not None
        process.send_signal(signal.SIGINT)
        read_until(process.stderr.fileno(), b"again to kill")
        if presses == 2:
            process.send_signal(signal.SIGINT)
        else:
            release.send()
            release.send()
        assert process.wait(DEADLINE) == 130
    statuses = [run["args"]["status"] for run in runs(trace)]  # type: ignore[index]
    assert statuses == ["completed" if presses == 1 else "cancelled"] * 2
    waits = [event for event in json.loads(trace.read_text()) if event["ph"] == "b"]
    assert len(waits) == 4  # those that never ran only waited


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_is_valid_after_other_signals(number: int, tmp_path: Path, ready: NamedPipe) -> None:
    trace = tmp_path / "trace"
    with running_cli("--trace", trace, "--shell", f"echo > {ready.path}; exec sleep 60 #", ":::", "a") as process:
        ready.wait_blocking()
        process.send_signal(number)
        process.wait(DEADLINE)
    assert len(runs(trace)) == (number == signal.SIGTERM)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("none/trace", b"No such file or directory"),
        ("", b"Is a directory"),
        ("pipe", b"No such device or address; it must be a file, not a pipe"),
        ("/dev/full", b"No space left on device"),
        ("/dev/stdout", b"Illegal seek; it must be a file, not a pipe"),
    ],
)
def test_a_file_that_cannot_be_written_is_an_error_before_anything_runs(name: str, why: bytes, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / name
    done = run_cli("--trace", path, "touch", ":::", tmp_path / "touched")
    assert done.returncode == 255
    assert done.stderr == b"aiocmdpool: cannot write the trace %s: %s\n" % (os.fsencode(path), why)
    assert not (tmp_path / "touched").exists()


def test_a_disk_that_becomes_full_stops_no_work(tmp_path: Path) -> None:
    """A limit on the size of files is such a disk. The trace ends there, and is valid; the status tells of it."""
    trace = tmp_path / "trace"
    small = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (4096, 4096))
    done = run_cli("--trace", trace, "echo", ":::", *map(str, range(100)), preexec_fn=small)
    assert done.returncode == 255
    assert sorted(map(int, done.stdout.split())) == list(range(100))
    assert done.stderr == b"aiocmdpool: cannot write the trace %s: File too large\n" % os.fsencode(trace)
    assert len(runs(trace)) < 100
