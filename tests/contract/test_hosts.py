"""Hosts that make it hard: SIGCHLD ignored, no pidfd, two loops in two threads."""

import ast
import os

import pytest

from .support import host_environment, run_host

pytestmark = pytest.mark.slow

ENDS = ["(0, b'')", "(7, b'')", "(-15, b'')", "(0, b'text\\n')", "('CommandTimeout', -15)"]

loops = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


@loops
def test_exit_statuses_are_right_where_the_host_ignores_sigchld(backend_name, loop):
    """The kernel then throws them away (wait(2), NOTES)."""
    host = run_host("sigchld_ignored", backend_name, loop)
    assert host.stdout.splitlines() == [*ENDS, "('IoError', 2)"]


@loops
def test_nothing_but_the_command_writes_to_its_stderr_where_the_host_ignores_sigchld(backend_name, loop):
    assert run_host("stderr_with_sigchld_ignored", backend_name, loop).stdout.splitlines() == ["b'own\\n'"]


@loops
def test_a_variable_without_a_name_keeps_no_command_from_running(backend_name, loop):
    """A program that was started by execve(2) may have been given one; programs are started without it."""
    environment = {**host_environment(), "": "x=y"}
    # With a `cwd`, CPython 3.13 starts it by execve(2) as well; its posix_spawn refuses such a variable.
    host = run_host("variable_without_name", backend_name, loop, env=environment, cwd=os.getcwd())
    assert host.stdout.splitlines() == ["[] 1"] * 4


@loops
def test_a_deadline_is_a_timeout_however_early_where_the_host_ignores_sigchld(backend_name, loop):
    host = run_host("ended_early_with_sigchld_ignored", backend_name, loop)
    assert host.stdout.splitlines() == ["('CommandTimeout',)"] * 10


def test_an_exit_status_that_somebody_else_took_is_not_made_up(backend_name):
    """A global `waitpid(-1)` takes it (cpython#87744): then it is known to nobody, and no number is right."""
    host = run_host("stolen_statuses", backend_name, "asyncio")
    for line in host.stdout.splitlines():
        code, seen = ast.literal_eval(line)
        assert seen in (code, "ChildError")


@loops
def test_everything_works_without_pidfd(backend_name, loop):
    host = run_host("without_pidfd", backend_name, loop)
    assert host.stdout.splitlines() == [*ENDS, "('CancelledError',)"]


@loops
def test_two_loops_in_two_threads_start_commands_at_once(backend_name, loop):
    host = run_host("two_loops", backend_name, loop)
    assert host.stdout == "[]\n"
