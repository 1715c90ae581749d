"""Failures: what they cost, what is said, what is tried again, and what ends the run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import NamedPipe

from cli.support import DEADLINE, environment, run_cli, running_cli

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("failures", "status"), [(1, 1), (100, 100), (101, 101), (130, 101)])
def test_the_exit_status_is_the_number_of_failures(failures: int, status: int) -> None:
    lines = b"1\n" * failures + b"0\n" * 5
    run = run_cli("-j4", "--shell", "exit {}", stdin=lines)
    assert run.returncode == status
    assert f"{failures + 5} commands in ".encode() in run.stderr
    assert f"{failures} failed".encode() in run.stderr
    assert run.stdout == b""


def test_quiet_says_nothing_of_exit_statuses() -> None:
    run = run_cli("--quiet", "--shell", "exit {}", ":::", "2")
    assert (run.returncode, run.stderr) == (1, b"")


def test_commands_that_cannot_start_are_told_one_line_each(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    (tmp_path / "lost").write_text("#!/no/such/interpreter\n")
    (tmp_path / "lost").chmod(0o755)
    programs = ["nosuchprogram", str(tmp_path / "plain"), str(tmp_path / "lost"), str(tmp_path), "true"]
    run = run_cli("-k", "{}", ":::", *programs)
    assert run.returncode == 4
    said = run.stderr.decode().splitlines()
    assert len(said) == 5
    for number, (line, program) in enumerate(zip(said, programs, strict=True), 1):
        if program != "true":
            assert line.startswith(f"aiocmdpool: input {number}: ")
            assert program in line
    assert said[4].startswith("aiocmdpool: 5 commands")


def test_arguments_too_long_for_the_system_lose_nothing_else() -> None:
    run = run_cli("-k", "printf", "%.1s\\n", stdin=b"a\n" + b"b" * 300_000 + b"\nc\n")
    assert run.stdout == b"a\nc\n"
    assert run.returncode == 1
    assert b"aiocmdpool: input 2: " in run.stderr


def test_an_input_that_cannot_be_an_argument_is_one_failure() -> None:
    run = run_cli("-k", "echo", stdin=b"a\nb\0c\nd\n")
    assert (run.stdout, run.returncode) == (b"a\nd\n", 1)
    assert b"input 2" in run.stderr
    assert b"NUL" in run.stderr


def test_a_timeout_is_a_failure_and_keeps_the_output() -> None:
    script = "echo before; trap '' TERM; sleep 60; sleep 60"
    for seconds in ("0.3", "2", "8"):  # it may take a while to begin, on a busy machine
        run = run_cli("--timeout", seconds, "--grace", "0.1", "--shell", script, ":::", "1")
        if run.stdout:
            break
    assert (run.stdout, run.returncode) == (b"before\n", 1)
    assert b"timeout" in run.stderr


def test_more_output_than_allowed_is_a_failure_with_its_head() -> None:
    run = run_cli("--max-output", "1k", "--shell", "yes; true #", ":::", "1")
    assert run.returncode == 1
    assert run.stdout == b"y\n" * 512
    assert b"aiocmdpool: input 1: " in run.stderr


def test_a_failed_command_is_tried_again_and_shows_its_last_attempt(tmp_path: Path) -> None:
    script = f"cd {tmp_path}; echo x >> {{}}; echo attempt $(wc -l < {{}}); [ $(wc -l < {{}}) -ge 3 ]"
    run = run_cli("--retries", "2", "--joblog", tmp_path / "log", "--shell", script, ":::", "a", "b")
    assert (run.returncode, run.stdout) == (0, b"attempt 3\n" * 2)
    records = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(record["exit"], record["attempts"]) for record in records] == [(0, 3), (0, 3)]
    run = run_cli("--retries", "2", "--shell", "echo {}; false", ":::", "a")
    assert (run.returncode, run.stdout) == (1, b"a\n")
    assert b"2 retried" in run.stderr


def test_halt_soon_starts_nothing_more_and_lets_running_commands_finish(
    tmp_path: Path, ready: NamedPipe, release: NamedPipe
) -> None:
    log = NamedPipe(tmp_path / "log")
    script = f"echo {{}} > {ready.path}; [ {{}} = 1 ] || read x < {release.path}; echo done {{}}; exit {{}}"
    with running_cli(
        "-j2", "--halt", "soon,fail=1", "--joblog", log.path, "--shell", script, ":::", "0", "1", "0", "0"
    ) as process:
        assert {ready.wait_blocking(), ready.wait_blocking()} == {b"1", b"0"}
        assert json.loads(log.wait_blocking())["exit"] == 1  # the failure has been seen
        release.send()
        out, err = process.communicate(timeout=DEADLINE)
    log.close()
    assert process.returncode == 1
    assert out == b"done 1\ndone 0\n"
    assert b"2 commands in" in err


@pytest.mark.parametrize("when", ["now", "soon"])
def test_after_the_failure_that_halts_not_one_more_command_starts(when: str, tmp_path: Path) -> None:
    script = f"touch {tmp_path}/{{}}; [ {{}} != 3 ]"
    run = run_cli("-j1", "--halt", when, "--shell", script, ":::", *"12345")
    assert run.returncode == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "3"]


def test_halt_now_ends_running_commands(tmp_path: Path) -> None:
    both = f"[ {{}} = 1 ] || {{ touch {tmp_path}/2; exec sleep 60; }}; until [ -e {tmp_path}/2 ]; do sleep 0.01; done"
    run = run_cli("-j2", "--halt", "now", "--shell", f"echo {{}}; {both}; false", ":::", *"123456")
    assert run.returncode == 1
    assert b"1 failed, 1 killed" in run.stderr
    assert run.stdout.split() in ([b"1", b"2"], [b"2", b"1"])


def test_halt_takes_an_endless_input() -> None:
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as endless:
        assert endless.stdout is not None
        with running_cli("--halt", "now,fail=3", "--shell", "exit 1", stdin=endless.stdout) as process:
            endless.stdout.close()
            _, err = process.communicate(timeout=DEADLINE)
        endless.wait(DEADLINE)
    assert process.returncode in (3, 4)  # one more may fail before it is ended
    assert b"failed" in err


def test_input_and_output_errors_are_told(tmp_path: Path) -> None:
    cases: list[tuple[list[str | bytes | Path], bytes]] = [
        (["-a", tmp_path / "none", "true"], b"cannot read"),
        (["-a", tmp_path, "true"], b"Is a directory"),
        (["--joblog", tmp_path / "none" / "log", "true"], b"cannot write the job log"),
    ]
    for arguments, said in cases:
        run = run_cli(*arguments)
        assert run.returncode == 255
        assert said in run.stderr
        assert run.stderr.count(b"\n") == 1
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen(
            [sys.executable, "-m", "aiocmdpool", "run", "echo", ":::", "a"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        _, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (255, b"aiocmdpool: cannot write standard output: No space left on device\n")


def test_closed_standard_streams_are_errors_and_never_another_file(tmp_path: Path) -> None:
    base = f"{sys.executable} -m aiocmdpool run"
    log, inputs = tmp_path / "log", tmp_path / "in"
    inputs.write_text("a\n")
    for redirection, said in (("<&-", b"cannot read standard input"), (">&-", b"cannot write standard output")):
        source = "" if "<" in redirection else f"-a {inputs}"
        run = subprocess.run(
            f"{base} {source} --joblog {log} echo {redirection}",
            shell=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment(),
            timeout=DEADLINE,
        )
        assert run.returncode == 255
        assert said in run.stderr
        assert log.read_bytes() == b""
    assert inputs.read_text() == "a\n"


def test_a_job_log_on_a_full_disk_ends_the_run() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    run = run_cli("--joblog", "/dev/full", "echo", ":::", "a")
    assert run.returncode == 255
    assert b"cannot write the job log /dev/full: No space left on device" in run.stderr


def test_progress_without_rich_names_the_cure() -> None:
    code = "import sys; sys.modules['rich'] = None; from aiocmdpool.cli import main; sys.exit(main())"
    argv = [sys.executable, "-c", code, "run", "--progress", "true", ":::", "x"]
    run = subprocess.run(argv, env=environment(), capture_output=True, timeout=DEADLINE)
    assert run.returncode == 255
    assert b"pip install 'aiocmdpool[cli]'" in run.stderr


def test_progress_asked_for_gives_a_summary_anywhere() -> None:
    run = run_cli("--progress", "true", ":::", "x")
    assert run.returncode == 0
    assert run.stderr.startswith(b"aiocmdpool: 1 command in ")
