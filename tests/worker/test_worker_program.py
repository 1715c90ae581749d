"""The real worker program, driven by hand over its pipes and its socket: requests, replies, cancelling."""

import errno
import os
import signal

import psutil
import pytest
from contract.support import argv_of, is_dead, is_gone, niceness_after, pattern

from aiocmdpool.standalone.wire import frames, messages
from aiocmdpool.standalone.wire.frames import PROTOCOL_VERSION

from .fake_parent import FakeParent
from .support import children_of, readable, start_payload, wait_until

# -- requests and replies --------------------------------------------------------------------------------------------


def test_the_first_word_is_hello_with_the_version_and_the_pid(parent):
    kind, number, payload = parent.receive()
    assert (kind, number) == (frames.HELLO, 0)
    assert messages.unpack_hello(payload) == (PROTOCOL_VERSION, parent.pid)


def test_a_command_is_run_and_its_end_told(parent):
    parent.start(7, "sh", "-c", "echo out; echo err >&2; exit 5")
    result = parent.result(7)
    assert (result.returncode, result.stdout, result.stderr) == (5, b"out\n", b"err\n")
    assert (result.reason, result.flags, result.leaked) == (messages.EXITED, 0, [])
    assert 0 < result.duration < 5
    assert is_gone(result.pid)


def test_a_request_may_come_before_the_hello_has_been_read(parent):
    parent.start(1, "true")
    assert parent.result(1).returncode == 0
    assert parent.hello() == (PROTOCOL_VERSION, parent.pid)


def test_a_request_may_come_a_byte_at_a_time(parent):
    for byte in frames.encode(frames.START, 3, start_payload("true")):
        parent.send_raw(bytes([byte]))
    assert parent.result(3).returncode == 0


def test_a_death_by_signal_is_told(parent):
    parent.start(1, "sh", "-c", "kill -KILL $$")
    assert parent.result(1).returncode == -signal.SIGKILL


def test_a_program_that_cannot_be_started_costs_nobody_else(parent):
    parent.start(1, "sleep", "60")
    parent.start(2, "no-such-program-anywhere")
    parent.start(3, "true", cwd=b"/no/such/directory")
    parent.start(4, "true", settings=[b"user=no-such-user"])
    parent.start(5, "true", stdin=messages.PATH, paths=[b"/no/such/file", b"", b""])
    parent.start(6, "true")
    assert parent.failure(2) == (errno.ENOENT, "program")
    assert parent.failure(3) == (errno.ENOENT, "cwd")
    assert parent.failure(4) == (0, "user")
    assert parent.failure(5) == (errno.ENOENT, "stdin")
    assert parent.result(6).returncode == 0
    parent.cancel(1)
    assert parent.result(1).returncode == -signal.SIGTERM


def test_the_pid_is_told_of_what_lives_a_while_and_of_nothing_else(parent, ready, release):
    for number in range(5):
        parent.start(number, "true")
        parent.result(number)
    command = 'echo >"$1"; read x <"$2"; echo end'
    parent.start(9, "sh", "-c", command, "sh", ready.path, release.path)
    ready.wait_blocking()
    pid = parent.started(9)
    assert psutil.Process(pid).ppid() == parent.pid
    release.send()
    assert parent.result(9).pid == pid


def test_answers_come_in_the_order_of_the_ends(parent, release):
    parent.start(1, "sh", "-c", 'read x <"$1"', "sh", release.path)
    parent.started(1)
    parent.start(2, "true")
    parent.result(2)
    release.send()
    assert parent.result(1).returncode == 0


def test_a_ping_is_answered_also_while_commands_run(parent):
    assert parent.answers()
    parent.start(1, "sleep", "60")
    parent.started(1)
    assert parent.answers()
    parent.cancel(1)
    parent.result(1)


def test_descriptors_become_the_streams(parent):
    read_end, write_end = os.pipe()
    sink, sink_end = os.pipe()
    os.write(write_end, b"handed over")
    os.close(write_end)
    parent.pass_descriptors(4, read_end, sink_end)
    streams = {"stdin": messages.DESCRIPTOR, "stdout": messages.DESCRIPTOR, "descriptors": 2}
    parent.start(4, "cat", **streams)
    os.close(read_end)
    os.close(sink_end)
    assert parent.result(4).stdout == b""
    with os.fdopen(sink, "rb") as file:
        assert file.read() == b"handed over"  # to its end: nobody else holds the other end


def test_large_output_is_handed_over_as_a_descriptor(parent):
    parent.start(4, *argv_of("write_n_bytes", 1_000_000, "both"))
    result = parent.result(4)
    assert result.flags == messages.STDOUT_HANDED_OVER | messages.STDERR_HANDED_OVER
    number, spools = parent.take_descriptors()
    assert number == 4
    for spool in spools:
        assert os.pread(spool, 2_000_000, 0) == pattern(1_000_000)
        os.close(spool)
    assert len(spools) == 2


def test_deadlines_are_kept_without_the_parent(parent):
    parent.start(1, "sleep", "60", timeout=0.05)
    parent.start(2, "sleep", "60", idle_timeout=0.05)
    parent.start(3, "cat", "/dev/zero", max_output=1000)
    assert parent.result(1).reason == messages.TIMEOUT
    assert parent.result(2).reason == messages.IDLE_TIMEOUT
    result = parent.result(3)
    assert (result.reason, result.flags) == (messages.OUTPUT_LIMIT, messages.STDOUT_TRUNCATED)
    assert result.stdout == bytes(1000)


@pytest.mark.parametrize("name", ["timeout", "idle_timeout", "grace"])
def test_a_deadline_in_a_far_future_is_no_trouble(parent, name):
    parent.start(1, "sleep", "60", **{name: 1e12})
    parent.started(1)
    parent.cancel(1)
    assert parent.result(1).returncode == -signal.SIGTERM
    assert parent.answers()


def test_the_niceness_is_added_and_inherited():
    with FakeParent(niceness=5) as parent:
        parent.start(1, "nice")
        assert int(parent.result(1).stdout) == niceness_after(5)


# -- cancelling ------------------------------------------------------------------------------------------------------


def test_a_command_that_is_cancelled_before_its_start_never_starts(parent, tmp_path):
    marker = tmp_path / "marker"
    frame = frames.encode(frames.START, 1, start_payload("touch", str(marker)))
    parent.send_raw(frame + frames.encode(frames.CANCEL, 1, bytes([messages.CANCELLED])))
    assert parent.failure(1) == (0, "cancelled")
    parent.start(2, "true")
    parent.result(2)
    assert not marker.exists()


def test_only_the_cancelled_one_of_many_is_not_started(parent):
    wanted = [frames.encode(frames.START, number, start_payload("echo", str(number))) for number in range(20)]
    parent.send_raw(b"".join(wanted) + frames.encode(frames.CANCEL, 17, bytes([messages.CLOSED])))
    assert parent.failure(17) == (0, "cancelled")
    assert [int(parent.result(number).stdout) for number in range(20) if number != 17] == [*range(17), 18, 19]


def test_descriptors_of_a_command_that_never_starts_are_closed(parent):
    read_end, write_end = os.pipe()
    parent.pass_descriptors(1, write_end)
    os.close(write_end)
    frame = frames.encode(frames.START, 1, start_payload("true", stdout=messages.DESCRIPTOR, descriptors=1))
    parent.send_raw(frame + frames.encode(frames.CANCEL, 1, bytes([messages.CANCELLED])))
    assert parent.failure(1) == (0, "cancelled")
    assert readable(read_end)
    assert os.read(read_end, 1) == b""
    os.close(read_end)


@pytest.mark.parametrize("reason", [messages.CANCELLED, messages.CLOSED])
def test_a_running_command_is_ended_for_the_reason_that_is_given(parent, ready, reason):
    parent.start(1, *argv_of("sleep_after_ready", ready.path))
    pid = int(ready.wait_blocking())
    parent.cancel(1, reason)
    result = parent.result(1)
    assert (result.reason, result.returncode, result.stdout) == (reason, -signal.SIGTERM, b"ready")
    assert is_gone(pid)


def test_the_first_reason_counts(parent, ready):
    parent.start(1, *argv_of("ignore_sigterm", ready.path), grace=0.1)
    ready.wait_blocking()
    parent.cancel(1, messages.CLOSED)
    parent.cancel(1, messages.CANCELLED)
    result = parent.result(1)
    assert (result.reason, result.returncode) == (messages.CLOSED, -signal.SIGKILL)


def test_cancelling_what_is_not_there_is_harmless(parent):
    parent.cancel(99)
    parent.start(1, "true")
    parent.result(1)
    parent.cancel(1)
    assert parent.answers()


def test_a_stopped_program_is_ended_as_well(parent, ready):
    parent.start(1, *argv_of("sleep_after_ready", ready.path), grace=30)
    pid = int(ready.wait_blocking())
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    parent.cancel(1)
    assert parent.result(1).returncode == -signal.SIGTERM


def test_a_flood_of_replies_leaves_though_more_requests_wait_than_can_be_taken(parent, ready, release):
    """It takes no new work while so much has to be written; then it must write."""
    parent.hello()
    loud = 'echo >"$1"; read x <"$2"; head -c 65000 /dev/zero; head -c 65000 /dev/zero >&2'
    for number in range(30):
        parent.start(number, "sh", "-c", loud, "sh", ready.path, release.path)
    for number in range(30):
        ready.wait_blocking()
        parent.started(number)
    os.kill(parent.pid, signal.SIGSTOP)  # so that it finds all of it at once
    for _ in range(30):
        release.send()
    wait_until(lambda: all(is_dead(pid) for pid in children_of(parent.pid)))
    for number in range(30, 40):
        parent.start(number, "echo", str(number))
    os.kill(parent.pid, signal.SIGCONT)
    for number in range(30):
        result = parent.result(number)
        assert (len(result.stdout), len(result.stderr)) == (65_000, 65_000)
    assert [int(parent.result(number).stdout) for number in range(30, 40)] == list(range(30, 40))
