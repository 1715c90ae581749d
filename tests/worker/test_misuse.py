"""A worker that is spoken to wrongly, and one whose programs or bystanders disturb it."""

import os
import signal
import sys

import pytest
from contract.support import argv_of, is_dead

from aiocmdpool.standalone.wire import frames, messages
from aiocmdpool.standalone.wire.frames import PROTOCOL_VERSION

from .fake_parent import FakeParent, hostile_commands
from .support import PROGRAMS, SOON, assert_all_die


@pytest.mark.parametrize("version", [PROTOCOL_VERSION - 1, PROTOCOL_VERSION + 1])
def test_another_protocol_version_is_refused_with_a_word_on_the_cure(version):
    with FakeParent(version=version) as parent:
        assert parent.wait() == 1
        assert parent.everything() == []
        words = parent.last_words()
    assert f"protocol {version}" in words
    assert "restart the host" in words


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\xff" * 5000])
def test_garbage_from_the_parent_ends_it_with_an_error_and_without_survivors(ready, garbage):
    with FakeParent() as parent:
        pids = hostile_commands(parent, ready)
        parent.send_raw(garbage)
        assert parent.wait() != 0
        assert "ProtocolError" in parent.last_words()
        assert_all_die(*pids, seconds=SOON)


def test_a_request_that_makes_no_sense_ends_it_without_survivors(ready):
    with FakeParent() as parent:
        parent.start(1, "sleep", "60")
        pid = parent.started(1)
        parent.send(frames.START, 2, b"too short")
        assert parent.wait() != 0
        assert_all_die(pid, seconds=SOON)


def test_a_parent_that_is_not_the_parent_is_gone():
    """It died before the worker could look."""
    with FakeParent(parent=1) as parent:
        assert parent.wait() == 0


def test_what_is_written_to_inherited_descriptors_does_not_reach_the_protocol(parent):
    for number in range(3):
        parent.start(number, sys.executable, "-I", "-S", str(PROGRAMS / "write_everywhere.py"))
        result = parent.result(number)
        assert (result.returncode, result.stdout, result.stderr) == (0, b"stray", b"stray")
    nowhere = {"stdout": messages.NULL, "stderr": messages.NULL}
    parent.start(7, sys.executable, "-I", "-S", str(PROGRAMS / "write_everywhere.py"), **nowhere)
    assert parent.result(7).stdout == b""
    assert parent.answers()
    assert parent.last_words() == ""


def test_programs_inherit_no_descriptors_of_the_worker_or_of_each_other(parent):
    parent.start(1, "sleep", "60")
    parent.started(1)
    for settings in ([], [b"umask=18"]):
        parent.start(2, *argv_of("print_fds"), settings=settings)
        assert parent.result(2).stdout == b"0 1 2\n"
    parent.cancel(1)
    parent.result(1)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_signals_that_are_meant_for_the_host_do_not_end_it(parent, name):
    parent.hello()
    parent.start(1, "sleep", "60")
    pid = parent.started(1)
    os.kill(parent.pid, getattr(signal, name))
    assert parent.answers()
    assert not is_dead(pid)
    parent.cancel(1)
    parent.result(1)
