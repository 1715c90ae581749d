"""What a worker says when it is asked, and what it does not let others ask."""

import ast
import contextlib
import subprocess
import sys

import pytest
from contract.support import HOST_DEADLINE, host_environment

from aiocmdpool.standalone.wire import frames, messages

from .support import PROGRAMS, is_idle, wait_until

pytestmark = pytest.mark.slow


def held(parent) -> list[int]:
    """The requests that the worker holds, as it says."""
    parent.send(frames.PING, 77)
    _, number, payload = parent.receive(kinds=(frames.PONG,))
    assert number == 77
    return sorted(messages.unpack_held(payload))


def test_it_says_what_it_holds(parent):
    assert held(parent) == []
    parent.start(5, "sleep", "60")
    parent.start(6, "sleep", "60")
    assert held(parent) == [5, 6]  # started or not
    parent.started(5)
    parent.started(6)
    assert held(parent) == [5, 6]
    parent.cancel(5)
    parent.result(5)
    assert held(parent) == [6]


def test_it_holds_what_it_tries_again(parent, tmp_path):
    """Somebody has the program open for writing."""
    program = tmp_path / "program"
    program.write_bytes(b"#!/bin/sh\n")
    program.chmod(0o755)
    with open(program, "ab"):
        parent.start(1, str(program))
        parent.start(2, "true")
        parent.result(2)
        assert held(parent) == [1]
    parent.result(1)
    assert held(parent) == []


def test_it_holds_what_waits_for_descriptors_to_leave(parent):
    """More large output than the socket takes: nobody takes it out."""
    answered: set[int] = set()
    for first in range(0, 2000, 100):
        for number in range(first, first + 100):
            parent.start(number, "head", "-c", "70000", "/dev/zero")
        assert parent.answers()  # it has read them
        wait_until(lambda: is_idle(parent.pid))
        left = held(parent)
        answered |= replies_before_now(parent)
        assert sorted({*answered, *left}) == list(range(first + 100))  # it goes on answering meanwhile
        if left:
            return
    raise AssertionError("the socket takes everything")


def replies_before_now(parent) -> set[int]:
    """The requests whose replies came before the PONG just received."""
    found = set()
    with contextlib.suppress(TimeoutError):
        while True:
            found.add(parent.receive(kinds=(frames.EXIT,), seconds=0.0)[1])
    return found


def test_other_processes_of_its_user_cannot_look_into_it_but_into_its_commands():
    argv = [sys.executable, str(PROGRAMS / "look_into.py")]
    options = {"stdout": subprocess.PIPE, "text": True, "timeout": HOST_DEADLINE}
    host = subprocess.run(argv, env=host_environment(), check=True, **options)
    (worker, spawned, forked), (leaked, same) = map(ast.literal_eval, host.stdout.splitlines())
    assert worker == ["stat"]
    assert {"environ", "fd", "maps", "mem", "stat"} <= set(spawned) == set(forked)
    assert (leaked, same) == (1, True)
