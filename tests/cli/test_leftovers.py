"""What commands leave running when they end: it is ended and told, or left alone where that is wanted."""

import contextlib
import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from cli.support import assert_dead, run_cli

pytestmark = pytest.mark.slow

UNTIL_IT_IS_SLEEP = 'until [ "$(cat /proc/$(cat {})/comm 2>/dev/null)" = sleep ]; do :; done 2>/dev/null'
DAEMONS = {
    "in-the-group": f"sleep 300 > /dev/null 2>&1 & echo $! > {{}}; {UNTIL_IT_IS_SLEEP}",
    "in-a-session": "setsid sh -c 'echo $$ > {}; exec sleep 300' > /dev/null 2>&1 & "
    f"until [ -s {{}} ]; do :; done; {UNTIL_IT_IS_SLEEP}",
    "holding-the-pipe": f"sleep 300 & echo $! > {{}}; {UNTIL_IT_IS_SLEEP}",
}


@pytest.mark.parametrize("mode", [[], ["--line-buffer"], ["-k"]], ids=["grouped", "line-buffer", "keep-order"])
@pytest.mark.parametrize("daemon", DAEMONS)
def test_what_is_left_running_is_ended_and_told(daemon: str, mode: list[str], tmp_path: Path) -> None:
    log, pid_file = tmp_path / "log", tmp_path / "pid"
    run = run_cli(*mode, "--joblog", log, "--shell", f"{DAEMONS[daemon]}; echo out", ":::", pid_file)
    assert (run.returncode, run.stdout) == (0, b"out\n")
    assert run.stderr == (
        b"aiocmdpool: 1 command left processes running, which have been ended: sleep (input 1); "
        b"with --detach they are left alone\n"
    )
    pid = int(pid_file.read_text())
    assert_dead([pid])
    (record,) = map(json.loads, log.read_text().splitlines())
    assert record["leaked"] == [{"pid": pid, "name": "sleep"}]
    assert (record["exit"], record["end_reason"]) == (0, "exited")


def test_many_are_counted_and_a_few_named(tmp_path: Path) -> None:
    script = DAEMONS["in-the-group"].replace("{}", f"{tmp_path}/{{}}") + "; [ {} != 2 ]"
    run = run_cli("-j1", "--shell", script, ":::", "1", "2", "3")
    assert run.returncode == 1
    assert b"3 commands left processes running, which have been ended: sleep (input 1);" in run.stderr
    assert b"input 2: " in run.stderr  # its failure is told as well


def test_quiet_is_quiet() -> None:
    run = run_cli("-q", "--shell", "sleep 300 > /dev/null 2>&1 & : {}", ":::", "a")
    assert (run.returncode, run.stderr) == (0, b"")


@pytest.mark.parametrize("daemon", ["in-the-group", "in-a-session"])
def test_detached_it_is_left_alone(daemon: str, tmp_path: Path) -> None:
    log, pid_file = tmp_path / "log", tmp_path / "pid"
    run = run_cli("--detach", "--joblog", log, "--shell", f"{DAEMONS[daemon]}; echo out", ":::", pid_file)
    pid = int(pid_file.read_text())
    try:
        assert (run.returncode, run.stdout, run.stderr) == (0, b"out\n", b"")
        assert psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        assert json.loads(log.read_text())["leaked"] == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert_dead([pid])
