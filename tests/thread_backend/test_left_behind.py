"""Nobody waits any more, and nobody said so: what was started is ended all the same."""

import contextlib
import subprocess
import sys

import pytest
from contract.support import HOST_DEADLINE, host_environment, is_gone

pytestmark = pytest.mark.slow

loops = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


@contextlib.contextmanager
def host(scenario, loop, path):
    argv = [sys.executable, "-m", "thread_backend.hosts", scenario, loop, path]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(argv, env=host_environment(), text=True, **pipes)
    with process:
        try:
            yield process
        finally:
            process.kill()


def say(process, word="go on"):
    print(word, file=process.stdin, flush=True)


@loops
@pytest.mark.parametrize("scenario", ["left_loop", "closed_loop"])
def test_the_end_of_the_interpreter_ends_what_a_loop_left(scenario, loop, ready):
    """The program would sleep for longer than this waits, and the interpreter waits for the thread that watches it."""
    with host(scenario, loop, ready.path) as process:
        pid = int(ready.wait_blocking())
        say(process)
        assert process.wait(HOST_DEADLINE) == 0
        assert is_gone(pid)


@loops
def test_an_await_that_is_thrown_away_ends_its_command(loop, ready):
    with host("dropped_await", loop, ready.path) as process:
        pid = int(ready.wait_blocking())
        say(process)
        assert process.stdout.readline() == "dropped\n"
        say(process)
        assert process.wait(HOST_DEADLINE) == 0
        assert is_gone(pid)


@loops
def test_the_end_of_a_fork_leaves_the_commands_of_its_parent_alone(loop, ready):
    with host("forked", loop, ready.path) as process:
        pid = int(ready.wait_blocking())
        say(process)
        assert process.stdout.readline() == "(0, False)\n"
        assert not is_gone(pid)
        say(process)
        assert process.stdout.readline() == "True\n"
        assert process.wait(HOST_DEADLINE) == 0
        assert is_gone(pid)
