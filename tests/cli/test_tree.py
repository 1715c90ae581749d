"""Commands that the third Ctrl-C kills while they start processes."""

import contextlib
import os
import select
import signal
import subprocess

import pytest

from aiocmdpool.cli import tree
from aiocmdpool.cli.tree import CommandTree
from aiocmdpool.standalone.kernel import processes as procs

pytestmark = pytest.mark.slow

DEADLINE = 20.0  # seconds
ANSWER = 0.5  # seconds for a program to answer, if it runs: nothing is asserted of one that does not
STARTING = "echo ready; while read line; do sleep 60 & echo started; done"


def is_alive(program: "subprocess.Popen[bytes]") -> bool:
    return os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None


def test_killing_a_command_misses_none_that_it_is_just_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child started between the search and the end of its parent has another parent when the next search comes."""
    kill = procs.Process.kill
    with subprocess.Popen(
        ["sh", "-c", STARTING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        asked, output = program.stdin.fileno(), program.stdout.fileno()

        def kill_late(process: procs.Process) -> bool:
            if process.pid != program.pid or not is_alive(program):
                return kill(process)
            os.write(asked, b"go\n")
            select.select([output], [], [], ANSWER)
            was_killed = kill(process)
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            return was_killed

        try:
            assert os.read(output, 10) == b"ready\n"
            monkeypatch.setattr(procs.Process, "kill", kill_late)
            CommandTree().kill([program.pid])
            while True:
                assert select.select([output], [], [], DEADLINE)[0], "something still holds its output"
                if not os.read(output, 100):
                    break
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)


def test_what_takes_too_long_to_be_stopped_is_killed_as_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "STOPPING", 0.0)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as program:
        CommandTree().kill([program.pid])
        try:
            assert program.wait(DEADLINE) == -signal.SIGKILL
        finally:
            program.kill()
