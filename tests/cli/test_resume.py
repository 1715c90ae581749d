"""`--joblog`, `--resume` and `--resume-failed`, across runs that end well, badly, and by SIGKILL."""

import json
import os
from pathlib import Path

import pytest
from conftest import NamedPipe

from cli.support import DEADLINE, run_cli, running_cli

INPUTS = [str(number) for number in range(1, 13)]


def records_of(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_bytes().splitlines() if line]


def test_the_job_log_tells_what_happened(tmp_path: Path) -> None:
    log = tmp_path / "log"
    secret = "s3cr3t"
    script = "case {} in ok) printf 12345;; bad) echo e >&2; exit 7;; *) kill -9 $$;; esac"
    environment_before = dict(os.environ)
    os.environ["AIOCMDPOOL_SECRET"] = secret
    try:
        run = run_cli("-j1", "--joblog", log, "--shell", script, ":::", "ok", "bad", "sig")
    finally:
        os.environ.clear()
        os.environ.update(environment_before)
    assert run.returncode == 2
    ok, bad, sig = records_of(log)
    assert (ok["seq"], ok["input"], ok["exit"], ok["signal"], ok["stdout_bytes"]) == (1, "ok", 0, None, 5)
    assert (bad["seq"], bad["exit"], bad["stderr_bytes"], bad["end_reason"]) == (2, 7, 2, "exited")
    assert (sig["seq"], sig["exit"], sig["signal"], sig["attempts"]) == (3, None, 9, 1)
    assert all(isinstance(each["start"], float) and each["start"] > 1.6e9 for each in (ok, bad, sig))
    assert all(isinstance(each["runtime"], float) and 0 <= each["runtime"] < DEADLINE for each in (ok, bad, sig))
    assert ok["command"] == ["/bin/sh", "-c", script.replace("{}", '"${1}"'), "sh", "ok"]
    assert secret.encode() not in log.read_bytes()


def test_resume_runs_what_is_missing_and_resume_failed_what_failed_too(tmp_path: Path) -> None:
    log, fixed = tmp_path / "log", tmp_path / "fixed"
    run_again = ["-k", "--joblog", log, "--shell", f"echo {{}}; [ {{}} != 2 ] || [ -e {fixed} ]", ":::"]
    assert run_cli(*run_again, "1", "2").returncode == 1
    resumed = run_cli("--resume", *run_again, "1", "2", "3")
    assert (resumed.stdout, resumed.returncode) == (b"3\n", 0)
    fixed.touch()
    again = run_cli("--resume-failed", *run_again, "1", "2", "3", "4")
    assert (again.stdout, again.returncode) == (b"2\n4\n", 0)
    assert run_cli("--resume-failed", *run_again, "1", "2", "3", "4").stdout == b""
    assert [record["seq"] for record in records_of(log)] == [1, 2, 3, 2, 4]


def test_resume_and_dry_run_show_what_would_be_done(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run_cli("--joblog", log, "echo", ":::", "1", "2")
    before = log.read_bytes()
    assert run_cli("--dry-run", "--resume", "--joblog", log, "echo", ":::", "1", "2", "3").stdout == b"echo 3\n"
    assert log.read_bytes() == before


def test_without_resume_the_log_starts_anew(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for _ in range(2):
        assert run_cli("--joblog", log, "true", ":::", "1", "2").returncode == 0
    assert len(records_of(log)) == 2


@pytest.mark.parametrize("mode", [[], ["-k"], ["--line-buffer"]], ids=["grouped", "keep-order", "line-buffer"])
def test_a_run_that_was_killed_goes_on_where_it_was(mode: list[str], tmp_path: Path, ready: NamedPipe) -> None:
    log, ran, first = tmp_path / "log", tmp_path / "ran", tmp_path / "first"
    first.touch()
    # In the first run, the sixth command never ends.
    script = (
        f"echo {{}} >> {ran}; echo out {{}}; [ {{}} != 6 ] || [ ! -e {first} ] || {{ echo > {ready.path}; sleep 60; }}"
    )
    arguments = ["-j1", *mode, "--joblog", str(log), "--shell", script, ":::", *INPUTS]
    with running_cli(*arguments) as process:
        ready.wait_blocking()
        process.kill()
        out, _ = process.communicate(timeout=DEADLINE)
    done = [record["seq"] for record in records_of(log)]
    assert done in ([1, 2, 3, 4], [1, 2, 3, 4, 5])  # the sixth may begin before the fifth is recorded
    delivered = [int(line.split()[1]) for line in out.splitlines()]
    assert delivered in ([1, 2, 3, 4], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6])
    assert delivered[: len(done)] == done  # never recorded before it was delivered
    # The kill may just as well have come in the middle of a write.
    log.write_bytes(log.read_bytes()[:-7])
    done.pop()

    first.unlink()
    ran.write_text("")
    resumed = run_cli("--resume", *arguments)
    assert resumed.returncode == 0
    missing = INPUTS[len(done) :]
    assert ran.read_text().split() == missing
    assert resumed.stdout == b"".join(b"out %s\n" % text.encode() for text in missing)
    lines = log.read_bytes().splitlines()
    assert len(lines) == len(done) + 1 + len(missing)  # the cut line stays, on a line of its own
    assert [json.loads(line)["input"] for line in lines[len(done) + 1 :]] == missing
    third = run_cli("--resume", *arguments)
    assert (third.returncode, third.stdout) == (0, b"")
    assert f"line {len(done) + 1}: no job record".encode() in third.stderr


def test_a_file_that_is_no_job_log_is_neither_used_nor_changed(tmp_path: Path) -> None:
    log = tmp_path / "notes"
    log.write_text("notes\n")
    run = run_cli("--resume", "--joblog", log, "echo", ":::", "1")
    assert (run.returncode, run.stdout) == (255, b"")
    assert b"is no job log" in run.stderr
    assert log.read_text() == "notes\n"
