"""What cannot be started, and what there are not enough descriptors for: told once, and what to do about it."""

import functools
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from cli.support import DEADLINE, environment, run_cli

pytestmark = pytest.mark.slow

MANY = b"".join(b"%d\n" % number for number in range(5000))


@pytest.mark.parametrize("mode", [[], ["-k"], ["--line-buffer"], ["--retries", "2"], ["--halt", "now"]])
def test_a_program_that_is_not_there_stops_the_run_with_one_line(mode: list[str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    run = run_cli("-j4", *mode, "--joblog", log, "gzpi", stdin=MANY)
    assert run.returncode == 127
    assert run.stdout == b""
    assert run.stderr.count(b"\n") == 1
    assert b"no program 'gzpi' in PATH" in run.stderr
    assert log.read_bytes() == b""  # nothing was done, so all is still to be done


def test_a_file_that_cannot_be_executed_has_a_status_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    (tmp_path / "plain").chmod(0o644)
    run = run_cli(tmp_path / "plain", stdin=MANY)
    assert run.returncode == 126
    assert run.stderr.count(b"\n") == 1
    assert b"is not executable" in run.stderr


@pytest.mark.parametrize("program", ["ls | wc", "echo a; echo b", "cat<x", "echo $HOME"])
def test_a_shell_command_is_told_of_the_option(program: str) -> None:
    run = run_cli(program, ":::", "a")
    assert run.returncode == 127
    assert run.stderr.endswith(b"for a shell command type --shell '%s'\n" % program.encode())


def test_no_such_hint_for_a_plain_name() -> None:
    assert b"--shell" not in run_cli("gzpi", ":::", "a").stderr


def test_programs_that_come_from_inputs_fail_one_by_one() -> None:
    run = run_cli("-k", "{}", "x", ":::", "gzpi", "echo", "gzpj")
    assert (run.returncode, run.stdout) == (2, b"x\n")
    assert run.stderr.count(b"cannot start") == 2


def test_a_program_that_vanishes_is_told_with_what_was_done(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\necho $1; rm -f "$0"\n')
    program.chmod(0o755)
    run = run_cli("-j1", "--halt", "soon", "--progress", program, ":::", "1", "2", "3")
    assert (run.returncode, run.stdout) == (127, b"1\n")
    assert b"no such file" in run.stderr
    assert b"aiocmdpool: 1 command in" in run.stderr
    assert b"2 inputs are not done" in run.stderr


def test_what_a_shell_did_not_find_is_told_in_the_summary() -> None:
    run = run_cli("-k", "--shell", "nosuch-{} 2>/dev/null", ":::", "a")
    assert run.returncode == 1
    assert b"exit status 127 (a program was not found)" in run.stderr


def limited(soft: int, hard: int) -> functools.partial[None]:
    return functools.partial(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("mode", [[], ["-k"], ["--line-buffer"], ["--timeout", "60"]])
def test_more_jobs_than_descriptors_are_fewer_jobs(mode: list[str]) -> None:
    inputs = [str(number) for number in range(200)]
    run = run_cli("-j300", *mode, "--shell", "sleep 0.1; echo {}", ":::", *inputs, preexec_fn=limited(128, 128))
    assert run.returncode == 0
    assert sorted(run.stdout.split(), key=int) == [each.encode() for each in inputs]
    assert run.stderr.count(b"\n") == 1
    assert b"at once instead of 300" in run.stderr
    assert b"ulimit -n" in run.stderr


def test_the_soft_limit_is_raised_as_far_as_needed_and_no_further() -> None:
    def limits(jobs: int) -> tuple[int, bytes]:
        run = run_cli(f"-j{jobs}", "--shell", "ulimit -n; : {}", stdin=b"1\n", preexec_fn=limited(256, 4096))
        return int(run.stdout), run.stderr

    assert limits(2) == (256, b"")
    raised, said = limits(300)
    assert 1200 < raised < 1600
    assert said == b""
    raised, said = limits(3000)
    assert raised == 4096
    assert b"at once instead of 3000: a process may have 4096 descriptors" in said


COUNT_TASKS = """
import asyncio, sys
from aiocmdpool.cli import main
from aiocmdpool.cli.run import Run
to_the_end = Run.to_the_end
def count(run):
    print(len(asyncio.all_tasks()), file=sys.stderr)
    return to_the_end(run)
Run.to_the_end = count
sys.exit(main())
"""


@pytest.mark.parametrize("jobs", ["5000", "200000", "999999999999"])
def test_a_huge_number_of_jobs_costs_nothing_up_front(jobs: str) -> None:
    """There is no runner for each job before there are commands for them."""
    argv = [sys.executable, "-c", COUNT_TASKS, "run", "-q", "-k", "-j", jobs, "echo"]
    run = subprocess.run(argv, input=b"a\nb\n", capture_output=True, env=environment(), timeout=DEADLINE)
    assert (run.returncode, run.stdout) == (0, b"a\nb\n")
    assert int(run.stderr) < 50


def test_as_many_run_at_once_as_asked_even_if_that_is_more_than_the_pool_began_with(tmp_path: Path) -> None:
    """Each waits until all of them are there."""
    jobs = 40
    script = f"touch {tmp_path}/{{}}; until set -- {tmp_path}/*; [ $# = {jobs} ]; do sleep 0.2; done"
    run = run_cli(f"-j{jobs}", "--timeout", "25", "--shell", script, ":::", *map(str, range(jobs)))
    assert (run.returncode, run.stderr) == (0, b"")
