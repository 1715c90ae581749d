"""`--joblog`, `--resume` and `--resume-failed`, across runs that end well, badly, and by SIGKILL."""

import json
import os
from pathlib import Path

import pytest
from conftest import NamedPipe

from cli.support import DEADLINE, run_cli, running_cli

pytestmark = pytest.mark.slow

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
    numbers = [record["seq"] for record in records_of(log)]
    assert [sorted(numbers[:2]), numbers[2], sorted(numbers[3:])] == [[1, 2], 3, [2, 4]]  # in the order of their ends


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


def test_a_command_is_known_by_what_it_is(tmp_path: Path) -> None:
    """A line in front, one left out, one moved: only what is new runs."""
    again = ["-j1", "--joblog", tmp_path / "log", "--resume", "echo", ":::"]
    assert run_cli(*again, "a", "b", "c").stdout == b"a\nb\nc\n"
    assert run_cli(*again, "new", "a", "b", "c").stdout == b"new\n"
    assert run_cli(*again, "c", "a", "newer").stdout == b"newer\n"
    assert run_cli(*again, "new", "newer", "c", "b", "a").stdout == b""


def test_the_same_command_runs_as_often_as_it_is_there(tmp_path: Path) -> None:
    again = ["-j1", "--joblog", tmp_path / "log", "--resume", "echo", ":::"]
    assert run_cli("-j1", "--joblog", tmp_path / "log", "echo", ":::", "a", "b", "a").stdout == b"a\nb\na\n"
    assert run_cli(*again, "a", "a", "b").stdout == b""
    assert run_cli(*again, "x", "a", "a", "a", "b").stdout == b"x\na\n"
    assert run_cli(*again, "a", "a", "a", "a").stdout == b"a\n"
    assert run_cli(*again, "a", "x", "a", "b", "a", "a").stdout == b""


def test_another_command_for_the_same_inputs_is_not_done(tmp_path: Path) -> None:
    again = ["-j1", "--joblog", tmp_path / "log", "--resume"]
    assert run_cli(*again, "echo", ":::", "a", "b").stdout == b"a\nb\n"
    assert run_cli(*again, "echo", "x", ":::", "a", "b").stdout == b"x a\nx b\n"


def test_one_that_failed_runs_again_wherever_it_stands(tmp_path: Path) -> None:
    """What failed first and succeeded later is done, also if its number is that of the failure again."""
    fixed = tmp_path / "fixed"
    script = f"echo {{}}; [ {{}} != b ] || [ -e {fixed} ]"
    again = ["-j1", "-q", "--joblog", tmp_path / "log", "--resume-failed", "--shell", script, ":::"]
    assert run_cli(*again, "a", "b", "b").stdout == b"a\nb\nb\n"
    fixed.touch()
    assert run_cli(*again, "new", "a", "b").stdout == b"new\nb\n"
    assert run_cli(*again, "a", "b", "b").stdout == b"b\n"
    assert run_cli(*again, "b", "a", "b").stdout == b""


def test_the_log_tells_of_usage_end_and_inputs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run_cli("-j1", "--joblog", log, "--shell", "echo {}; sleep 1", ":::", "a b")
    (record,) = records_of(log)
    assert record["inputs"] == ["a b"]
    assert record["leaked"] == []
    usage = record["usage"]
    assert isinstance(usage, dict)
    assert set(usage) == {"user", "system", "max_rss"}
    assert isinstance(record["end"], float)
    assert abs(record["end"] - record["start"] - record["runtime"]) < 0.9  # type: ignore[operator]


def test_a_lost_worker_is_told_of_every_command_that_was_with_it(tmp_path: Path, ready: NamedPipe) -> None:
    """Each has run, and its end is not known; what was never started is another matter."""
    log = tmp_path / "log"
    script = f"echo $$ > {ready.path}; case {{}} in 1) read x < {tmp_path}/go; kill -9 $PPID;; esac; sleep 60"
    os.mkfifo(tmp_path / "go")
    go = os.open(tmp_path / "go", os.O_RDWR)
    with running_cli("-j1", "--joblog", log, "--shell", script, ":::", "1") as process:
        ready.wait_blocking()
        os.write(go, b"go\n")
        _, err = process.communicate(timeout=DEADLINE)
    os.close(go)
    assert process.returncode == 1
    assert b"may have run" in err
    (record,) = records_of(log)
    assert (record["end_reason"], record["exit"], record["signal"]) == ("worker_lost", None, None)
    assert isinstance(record["start"], float)
    assert isinstance(record["runtime"], float)


def test_what_never_started_says_so(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run_cli("-q", "--joblog", log, "{}", ":::", "/no/such/program")
    (record,) = records_of(log)
    assert (record["end_reason"], record["start"], record["runtime"]) == ("not_started", None, None)


def test_keep_order_does_not_hold_up_the_log(tmp_path: Path, ready: NamedPipe, release: NamedPipe) -> None:
    log = NamedPipe(tmp_path / "log")
    script = f"[ {{}} != 1 ] || read x < {release.path}; echo {{}}"
    with running_cli("-k", "-j2", "--joblog", log.path, "--shell", script, ":::", *"1234") as process:
        first = [json.loads(log.wait_blocking())["seq"] for _ in range(3)]
        assert first == [2, 3, 4]  # the first still runs, and nothing has been written
        release.send()
        out, _ = process.communicate(timeout=DEADLINE)
    assert out == b"1\n2\n3\n4\n"
    assert json.loads(log.wait_blocking())["seq"] == 1
    log.close()


def test_the_summary_says_what_was_not_run_and_how_to_go_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "[ {} != 2 ]"
    run = run_cli("-j1", "--halt", "soon", "--joblog", log, "--shell", script, ":::", *"123456")
    assert run.stderr.endswith(b"aiocmdpool: 4 inputs are not done; go on with --resume --joblog %s\n" % bytes(log))
    run = run_cli("-j1", "--halt", "soon", "--shell", script, stdin=b"1\n2\n3\n" + b"4\n" * 100_000)
    assert b" after the first " in run.stderr
    assert run.stderr.endswith(b"are not done; with --joblog FILE, --resume goes on after a stop\n")
