"""The real worker program, driven by hand over its pipes and its socket."""

import errno
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from contract.support import argv_of, host_environment, is_dead, is_gone, pattern

from aiocmdpool.worker_program import frames, messages
from aiocmdpool.worker_program.frames import PROTOCOL_VERSION

from .fake_parent import FakeParent
from .support import PROGRAMS, assert_all_die, program, readable, start_payload, wait_until

SOON = 3.0  # seconds within which a worker without a parent is gone with all it started: it takes 0.4, and a busy machine


@pytest.fixture
def parent() -> Iterator[FakeParent]:
    with FakeParent() as parent:
        yield parent


# -- requests and replies -----------------------------------------------------------------------------------------------


def test_the_first_word_is_hello_with_the_version_and_the_pid(parent):
    assert parent.receive()[0] == frames.HELLO or pytest.fail("something came before it")
    with FakeParent() as other:
        assert other.hello() == (PROTOCOL_VERSION, other.pid)


def test_a_command_is_run_and_its_end_told(parent):
    parent.start(7, "sh", "-c", "echo out; echo err >&2; exit 5")
    result = parent.result(7)
    assert (result.returncode, result.stdout, result.stderr) == (5, b"out\n", b"err\n")
    assert (result.reason, result.flags, result.leaked) == (messages.EXITED, 0, [])
    assert 0 < result.duration < 5
    assert is_gone(result.pid)


def test_a_request_may_come_before_the_hello_has_been_read(parent):
    parent.start(1, "true")
    kinds = [parent.receive()[0] for _ in range(2)]
    assert kinds == [frames.HELLO, frames.EXIT]


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
    assert parent.failure(3) == (errno.ENOENT, "program")
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
    assert (result.reason, result.stdout, result.flags) == (messages.OUTPUT_LIMIT, bytes(1000), messages.STDOUT_TRUNCATED)


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
        assert int(parent.result(1).stdout) == os.getpriority(os.PRIO_PROCESS, 0) + 5


# -- cancelling -----------------------------------------------------------------------------------------------------------


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
    os.kill(int(ready.wait_blocking()), signal.SIGSTOP)
    parent.cancel(1)
    assert parent.result(1).returncode == -signal.SIGTERM


# -- leaving ------------------------------------------------------------------------------------------------------------


def test_close_lets_what_has_been_asked_for_come_to_its_end(parent, ready, release):
    parent.start(1, "sh", "-c", 'echo >"$1"; read x <"$2"; echo end', "sh", ready.path, release.path)
    ready.wait_blocking()
    close = frames.encode(frames.CLOSE, 0)
    parent.send_raw(b"".join(frames.encode(frames.START, n, start_payload("echo", "x")) for n in range(2, 30)) + close)
    for number in range(2, 30):
        assert parent.result(number).stdout == b"x\n"
    assert parent.process.poll() is None
    release.send()
    assert parent.result(1).stdout == b"end\n"
    assert parent.wait() == 0
    assert parent.everything() == [(frames.STARTED, 1, parent_pid_payload(parent))] or parent.ended
    assert parent.last_words() == ""


def parent_pid_payload(parent: FakeParent) -> bytes:
    return messages.pack_pid(parent.pid)


def test_an_idle_worker_that_is_closed_leaves_at_once(parent):
    parent.hello()
    parent.send(frames.CLOSE)
    assert parent.wait() == 0
    assert parent.everything() == []


def test_a_command_can_be_cancelled_after_close(parent):
    parent.start(1, "sleep", "60")
    parent.send(frames.CLOSE)
    parent.cancel(1)
    assert parent.result(1).reason == messages.CANCELLED
    assert parent.wait() == 0


def test_no_reply_is_lost_when_a_worker_leaves_whose_parent_is_slow(parent):
    """More than a pipe holds, and more messages with descriptors than a socket holds."""
    small = frames.encode(frames.START, 1, start_payload("head", "-c", "65000", "/dev/zero"))
    requests = [small[:] for _ in range(0)]
    for number in range(1, 9):
        requests.append(frames.encode(frames.START, number, start_payload("head", "-c", "65000", "/dev/zero")))
    for number in range(9, 13):
        requests.append(frames.encode(frames.START, number, start_payload(*argv_of("write_n_bytes", 100_000))))
    parent.send_raw(b"".join(requests) + frames.encode(frames.CLOSE, 0))
    wait_until(lambda: not children_of(parent.pid) and readable(parent.replies))
    time.sleep(0.05)  # not to synchronise: whoever leaves too early has had time to
    results = {frame[1]: messages.unpack_exit(frame[2]) for frame in parent.everything() if frame[0] == frames.EXIT}
    assert sorted(results) == list(range(1, 13))
    for number in range(1, 9):
        assert results[number].stdout == bytes(65000)
    for _ in range(4):
        number, [spool] = parent.take_descriptors()
        assert results[number].flags == messages.STDOUT_HANDED_OVER
        assert os.pread(spool, 200_000, 0) == pattern(100_000)
        os.close(spool)
    assert parent.wait() == 0


def children_of(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children()] if psutil.pid_exists(pid) else []


def test_a_worker_takes_no_new_work_while_its_parent_reads_nothing(parent, tmp_path):
    parent.hello()
    loud, last = 40, 41
    for number in range(1, loud + 1):
        parent.start(number, "head", "-c", "65000", "/dev/zero")
    wait_until(lambda: readable(parent.replies, 0) and not children_of(parent.pid))
    marker = tmp_path / "marker"
    parent.start(last, "touch", str(marker))
    answered = [parent.result(number) for number in range(1, loud + 1)]
    assert all(result.stdout == bytes(65000) for result in answered)
    parent.result(last)
    assert marker.exists()


# -- without a parent ---------------------------------------------------------------------------------------------------


def hostile_commands(parent: FakeParent, ready) -> list[int]:
    """A sleeping one, one that ignores TERM, a family, and escapees of every kind; their pids."""
    parent.start(1, "sleep", "60")
    parent.start(2, *argv_of("ignore_sigterm", ready.path), grace=60.0)
    pids = [parent.started(1), int(ready.wait_blocking())]
    parent.start(3, *argv_of("grandchildren", ready.path, "stubborn"), grace=60.0)
    pids += [int(ready.wait_blocking()) for _ in range(4)]
    parent.start(4, *argv_of("double_fork", ready.path, "stay", "session"))
    pids += [int(ready.wait_blocking()) for _ in range(2)]
    escape = 'setsid env -i sh -c "trap : TERM; echo \\$\\$ >$1; exec sleep 60" >/dev/null 2>&1 & echo $$ >"$1"; wait'
    parent.start(5, "sh", "-c", escape, "sh", ready.path)
    pids += [int(ready.wait_blocking()) for _ in range(2)]
    return pids


def test_a_worker_whose_pipe_ends_takes_everything_along_within_a_second(parent, ready):
    pids = hostile_commands(parent, ready)
    started = time.monotonic()
    parent.close_requests()
    assert parent.wait() == 0
    assert_all_die(*pids, seconds=SOON)
    assert time.monotonic() - started < SOON


def test_programs_are_asked_first_when_the_parent_is_gone(parent, ready, tmp_path):
    farewell = tmp_path / "farewell"
    script = f"trap 'echo bye >{farewell}; exit 0' TERM; echo $$ >{ready.path}; while :; do sleep 0.05; done"
    parent.start(1, "sh", "-c", script)
    pid = int(ready.wait_blocking())
    parent.close_requests()
    parent.wait()
    assert is_dead(pid)
    assert farewell.read_text() == "bye\n"


def test_requests_that_wait_are_not_started_when_the_parent_is_gone(tmp_path):
    with FakeParent() as parent:
        parent.hello()
        marker = tmp_path / "marker"
        os.kill(parent.pid, signal.SIGSTOP)
        for number in range(50):
            parent.start(number, "sh", "-c", f"echo {number} >>{marker}")
        parent.close_requests()
        os.kill(parent.pid, signal.SIGCONT)
        parent.wait()
    started = marker.read_text().split() if marker.exists() else []
    assert len(started) < 50


def test_an_idle_worker_leaves_when_its_pipe_ends(parent):
    parent.hello()
    parent.close_requests()
    assert parent.wait() == 0
    assert parent.last_words() == ""


@pytest.fixture
def host(ready) -> Iterator[tuple]:
    """A host in a process of its own, whose pipe somebody else holds open: this process. And what it started."""

    def start(count: int, *argv: str) -> tuple[subprocess.Popen, int, list[int]]:
        command = [sys.executable, str(PROGRAMS / "parent.py"), *map(str, (read_end, write_end, ready.path, count))]
        host = subprocess.Popen([*command, *argv], pass_fds=(read_end, write_end), env=host_environment())
        hosts.append(host)
        worker, *pids = map(int, ready.wait_blocking().split())
        return host, worker, pids

    hosts: list[subprocess.Popen] = []
    read_end, write_end = os.pipe()
    yield start
    for host in hosts:
        host.kill()
        host.wait()
    os.close(read_end)
    os.close(write_end)


def test_a_killed_parent_is_missed_though_somebody_else_holds_its_pipe_open(host):
    process, worker, pids = host(3, "sleep", "60")
    process.kill()
    process.wait()
    assert_all_die(worker, *pids, seconds=SOON)


def test_a_worker_alone_is_quiet_until_it_has_left(host, ready):
    """The death of the parent is an event that stays: whoever looks at it again and again is busy."""
    process, worker, [pid] = host(1, *argv_of("ignore_sigterm", ready.path))
    before = psutil.Process(worker).cpu_times()
    process.kill()
    process.wait()
    worker_process = psutil.Process(worker)
    used = 0.0
    while not is_dead(worker):
        try:
            now = worker_process.cpu_times()
        except psutil.NoSuchProcess:
            break
        used = now.user + now.system - before.user - before.system
        time.sleep(0.005)
    assert used < 0.2
    assert_all_die(pid)


def test_a_worker_does_not_wait_for_replies_to_be_read_once_its_parent_is_gone(tmp_path, ready):
    """Somebody else, forked from the host, holds the other ends open and reads nothing."""
    with FakeParent() as parent:
        read_end, write_end = os.pipe()
        holder = subprocess.Popen(["sleep", "60"], pass_fds=(parent.replies, parent.passing.fileno()))
        parent.hello()
        for number in range(20):
            parent.start(number, "sh", "-c", f"trap '' TERM; echo >{ready.path}; head -c 65000 /dev/zero; sleep 60")
        for _ in range(20):
            ready.wait_blocking()
        parent.close_requests()
        try:
            assert parent.wait(SOON) == 0
        finally:
            holder.kill()
            holder.wait()
            os.close(read_end)
            os.close(write_end)


# -- what is wrong ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [PROTOCOL_VERSION - 1, PROTOCOL_VERSION + 1])
def test_another_protocol_version_is_refused_with_a_word_on_the_cure(version):
    with FakeParent(version=version) as parent:
        assert parent.wait() == 1
        assert parent.everything() == []
        words = parent.last_words()
    assert f"protocol {version}" in words
    assert "restart the host" in words


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(100), os.urandom(100), b"\xff" * 5000])
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


# -- the conditions programs find ----------------------------------------------------------------------------------------


def test_a_c_locale_is_not_changed_for_programs(ready):
    """CPython sets LC_CTYPE for itself then (PEP 538)."""
    plain = {name: value for name, value in os.environ.items() if name not in ("LC_ALL", "LC_CTYPE", "LANG")}
    for given, flags in ((plain, ("drop_lc_ctype",)), ({**plain, "LC_CTYPE": "C"}, ())):
        with FakeParent(env=given, flags=flags) as parent:
            parent.start(1, *argv_of("print_env"))
            seen = dict(item.split(b"=", 1) for item in parent.result(1).stdout.split(b"\0") if item)
        assert seen.pop(b"AIOCMDPOOL_RUN").endswith(f"{parent.cookie}:1".encode())
        assert seen == {os.fsencode(name): os.fsencode(value) for name, value in given.items()}


def test_a_directory_that_is_removed_is_no_trouble(tmp_path):
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    other.mkdir()
    with FakeParent(cwd=home) as parent:
        parent.start(1, "pwd", "-P")
        assert parent.result(1).stdout.strip() == os.fsencode(home.resolve())
        home.rmdir()
        parent.start(2, "true")
        assert parent.result(2).returncode == 0
        parent.start(3, "pwd", "-P", cwd=os.fsencode(other))
        assert parent.result(3).stdout.strip() == os.fsencode(other.resolve())
        other.rmdir()
        parent.start(4, "true", cwd=os.fsencode(other))
        assert parent.failure(4) == (errno.ENOENT, "program")
        parent.start(5, "true")
        assert parent.result(5).returncode == 0


def test_the_environment_is_that_of_the_worker_with_the_differences():
    with FakeParent(env={"PATH": os.environ["PATH"], "A": "1", "B": "2"}, flags=("drop_lc_ctype",)) as parent:
        for changes, expected in (
            ([], {b"A=1", b"B=2"}),
            ([b"A=3", b"B", b"C=\xff"], {b"A=3", b"C=\xff"}),
            ([b"", b"C=4"], {b"C=4"}),
            ([], {b"A=1", b"B=2"}),
        ):
            parent.start(1, *argv_of("print_env"), environment=changes)
            seen = set(parent.result(1).stdout.split(b"\0"))
            assert {item for item in seen if item[:1] in (b"A", b"B", b"C") and item[1:2] == b"="} == expected


def signal_sets(status: bytes) -> dict[str, int]:
    return {name: int(re.search(rf"^{name}:\s*(\w+)$", status.decode(), re.M)[1], 16) for name in ("SigBlk", "SigIgn")}


@pytest.mark.parametrize("settings", [[], [b"umask=18"]], ids=["posix_spawn", "fork"])
def test_programs_find_the_signals_as_the_host_would_give_them(settings):
    def host_with_odd_signals() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for its background jobs
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR2, signal.SIGCHLD])

    with FakeParent(preexec_fn=host_with_odd_signals) as parent:
        parent.start(1, "cat", "/proc/self/status", settings=settings)
        sets = signal_sets(parent.result(1).stdout)
    ignored = {number for number in signal.Signals if sets["SigIgn"] & 1 << number - 1}
    assert ignored == {signal.SIGINT, signal.SIGHUP, signal.SIGUSR1}
    assert sets["SigBlk"] == 0


@pytest.mark.parametrize("settings", [[], [b"umask=18"]], ids=["posix_spawn", "fork"])
def test_programs_do_not_ignore_what_the_worker_ignores(settings):
    def host_with_default_signals() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    with FakeParent(preexec_fn=host_with_default_signals) as parent:
        parent.start(1, "cat", "/proc/self/status", settings=settings)
        sets = signal_sets(parent.result(1).stdout)
    assert sets == {"SigBlk": 0, "SigIgn": 0}


# -- escapees -------------------------------------------------------------------------------------------------------------


def test_an_escapee_that_comes_back_is_killed_and_reported(parent, ready):
    parent.start(1, *argv_of("double_fork", ready.path, "leave", "session"))
    escaped, _ = (int(ready.wait_blocking()) for _ in range(2))
    result = parent.result(1)
    assert result.returncode == 0
    assert [pid for pid, _ in result.leaked] == [escaped]
    assert result.leaked[0][1].startswith(b"python")
    assert is_gone(escaped)


@pytest.mark.parametrize("grip", ["", "quiet", "stubborn"])
def test_what_stays_in_the_group_is_killed_and_reported(parent, ready, grip):
    parent.start(1, *argv_of("hold_stdout", ready.path, 3, *grip.split()))
    left = int(ready.wait_blocking())
    result = parent.result(1)
    assert (result.returncode, result.stdout, result.stderr) == (3, b"done", b"")
    assert [pid for pid, _ in result.leaked] == [left]
    assert is_gone(left)


def test_escapees_of_commands_that_still_run_are_left_alone(parent, ready):
    parent.start(1, *argv_of("double_fork", ready.path, "stay", "session"))
    living = [int(ready.wait_blocking()) for _ in range(2)]
    for number in range(2, 6):
        parent.start(number, *argv_of("double_fork", ready.path, "leave", "session"))
        escaped = int(ready.wait_blocking())
        ready.wait_blocking()
        assert [pid for pid, _ in parent.result(number).leaked] == [escaped]
        assert is_gone(escaped)
    assert not any(map(is_dead, living))
    parent.cancel(1)
    parent.result(1)
    assert_all_die(*living)


def test_an_escapee_without_an_environment_is_killed_as_well(parent, ready):
    script = 'setsid env -i sh -c "echo \\$\\$ >$1; exec sleep 60" >/dev/null 2>&1 & read x <"$2"'
    read_end, write_end = os.pipe()
    parent.pass_descriptors(1, read_end)
    streams = {"stdin": messages.DESCRIPTOR, "descriptors": 1}
    parent.start(1, "sh", "-c", script.replace('"$2"', "/dev/stdin"), "sh", ready.path, **streams)
    os.close(read_end)
    escaped = int(ready.wait_blocking())
    os.close(write_end)
    parent.result(1)
    assert_all_die(escaped)


def test_an_escapee_that_forges_its_cookie_is_killed_and_hurts_nobody(parent, ready):
    parent.start(1, "sleep", "60")
    for number, forged in enumerate(("${AIOCMDPOOL_RUN}x", "", "nonsense", "a:b:c,,:", "${AIOCMDPOOL_RUN%:*}:1"), 2):
        script = f'export AIOCMDPOOL_RUN="{forged}"; setsid sleep 60 >/dev/null 2>&1 & echo $! >"$1"; read x <"$1"'
        parent.start(number, "sh", "-c", script.replace('; read x <"$1"', ""), "sh", ready.path)
        pids = [int(ready.wait_blocking())]
        parent.result(number)
    assert parent.answers()
    parent.cancel(1)
    parent.result(1)
    parent.start(99, "true")  # when nothing else runs, whatever is there is a leak
    parent.result(99)
    assert_all_die(*pids)


def test_nobody_is_left_when_a_worker_is_closed(parent, ready):
    """Two commands run, so that an escapee that does not say whose it is stays for the time being."""
    for number in (1, 2):
        script = 'setsid env -i sleep 60 >/dev/null 2>&1 & echo $! >"$1"'
        parent.start(number + 10, "sleep", "60")
        parent.start(number, "sh", "-c", script, "sh", ready.path)
    pids = [int(ready.wait_blocking()) for _ in range(2)]
    parent.result(1)
    parent.result(2)
    parent.send(frames.CLOSE)
    parent.cancel(11)
    parent.cancel(12)
    assert parent.wait() == 0
    assert_all_die(*pids)


def test_a_worker_in_a_command_of_a_worker_leaves_nothing_when_both_are_killed(parent, ready):
    """The inner worker leads a session of its own, and what it starts carries its own cookie."""
    inner = [sys.executable, str(PROGRAMS / "parent.py")]
    read_end, write_end = os.pipe()
    parent.pass_descriptors(1, read_end)
    environment = [os.fsencode(f"PYTHONPATH={host_environment()['PYTHONPATH']}")]
    streams = {"stdin": messages.DESCRIPTOR, "descriptors": 1, "environment": environment}
    parent.start(1, *inner, "0", "1", ready.path, "2", "sleep", "60", **streams)
    os.close(read_end)
    pids = [int(word) for word in ready.wait_blocking().split()]
    assert len(pids) == 3
    parent.cancel(1)
    parent.result(1)
    assert_all_die(*pids)
    os.close(write_end)


# -- many ---------------------------------------------------------------------------------------------------------------


def test_five_hundred_commands_sleep_in_one_worker(parent):
    count = 500
    for number in range(count):
        parent.start(number, "sleep", "60")
    pids = [parent.started(number) for number in range(count)]
    assert len(set(pids)) == count
    assert parent.answers()
    for number in range(count):
        parent.cancel(number)
    assert [parent.result(number).returncode for number in range(count)] == [-signal.SIGTERM] * count
    assert all(map(is_gone, pids))


def few_descriptors(count: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


def test_a_worker_without_descriptors_refuses_and_works_on():
    with FakeParent(preexec_fn=lambda: few_descriptors(40)) as parent:
        for number in range(40):
            parent.start(number, "sleep", "60")
        answers = [parent.receive(kinds=(frames.STARTED, frames.FAILED)) for _ in range(40)]
        refused = {number: payload for kind, number, payload in answers if kind == frames.FAILED}
        assert 10 < len(refused) < 40
        assert {messages.unpack_failed(payload)[0] for payload in refused.values()} == {errno.EMFILE}
        for number in set(range(40)) - refused.keys():
            parent.cancel(number)
            assert parent.result(number).reason == messages.CANCELLED
        for _ in range(3):
            parent.start(99, "echo", "fine")
            assert parent.result(99).stdout == b"fine\n"


def test_what_is_left_behind_is_killed_also_when_there_are_no_descriptors(ready, release):
    with FakeParent(preexec_fn=lambda: few_descriptors(40)) as parent:
        script = 'sleep 60 >/dev/null 2>&1 & echo $! >"$1"; read x <"$2"'
        parent.start(1, "sh", "-c", script, "sh", ready.path, release.path)
        left = int(ready.wait_blocking())
        full = False
        for number in range(2, 40):  # until not even /proc can be read
            parent.start(number, "sleep", "60", stderr=messages.NULL if full else messages.CAPTURE)
            full = parent.receive(kinds=(frames.STARTED, frames.FAILED), number=number)[0] == frames.FAILED or full
        release.send()
        parent.result(1)
        assert_all_die(left)


def test_large_output_without_descriptors_is_an_error_and_no_end(ready, release):
    with FakeParent(preexec_fn=lambda: few_descriptors(40)) as parent:
        script = 'echo >"$1"; read x <"$2"; exec head -c 200000 /dev/zero'
        parent.start(1, "sh", "-c", script, "sh", ready.path, release.path, stderr=messages.NULL)
        ready.wait_blocking()
        for number in range(2, 60):
            parent.start(number, "sleep", "60", stderr=messages.NULL)
            if parent.receive(kinds=(frames.STARTED, frames.FAILED), number=number)[0] == frames.FAILED:
                break
        release.send()
        assert parent.failure(1) == (errno.EMFILE, "output")
        assert parent.answers()


# -- what it costs ------------------------------------------------------------------------------------------------------


def test_it_imports_nothing_that_makes_it_slow_or_large():
    with FakeParent(version=PROTOCOL_VERSION + 1, interpreter=("-X", "importtime")) as parent:
        parent.wait()
        imported = {line.rpartition("|")[2].strip() for line in parent.last_words().splitlines()}
    assert "worker_program.server" in imported
    assert not imported & {"asyncio", "typing", "subprocess", "site", "aiocmdpool", "re", "dataclasses", "logging"}


def test_an_idle_worker_does_nothing_at_all(parent):
    parent.start(1, "sh", "-c", "exit 0", timeout=0.1, idle_timeout=0.1)
    parent.result(1)
    assert parent.answers()
    status = Path(f"/proc/{parent.pid}/status")

    def wakeups() -> list[str]:
        return re.findall(r"ctxt_switches:\s*(\d+)", status.read_text())

    wait_until(lambda: psutil.Process(parent.pid).status() == psutil.STATUS_SLEEPING)
    before = wakeups()
    time.sleep(0.25)  # longer than every deadline it has had
    assert wakeups() == before


def test_a_busy_worker_is_idle_while_its_programs_only_sleep(parent):
    for number in range(20):
        parent.start(number, "sleep", "60", timeout=60.0)
    for number in range(20):
        parent.started(number)
    status = Path(f"/proc/{parent.pid}/status")
    wait_until(lambda: psutil.Process(parent.pid).status() == psutil.STATUS_SLEEPING)
    before = re.findall(r"ctxt_switches:\s*(\d+)", status.read_text())
    time.sleep(0.2)
    assert re.findall(r"ctxt_switches:\s*(\d+)", status.read_text()) == before


def test_it_is_small(parent):
    for number in range(50):
        parent.start(number, "head", "-c", "60000", "/dev/zero")
    for number in range(50):
        parent.result(number)
    assert psutil.Process(parent.pid).memory_info().rss < 24_000_000


@pytest.mark.parametrize("prepared", [False, True], ids=["plain", "prepared"])
def test_a_thousand_commands_leave_nothing_in_it(parent, prepared):
    """Neither descriptors nor zombies."""
    parent.hello()
    fds = f"/proc/{parent.pid}/fd"
    before = sorted(os.listdir(fds))
    for turn in range(10):
        for number in range(100):
            settings = [b"umask=18"] if prepared and number % 10 == 0 else []
            program = ("true", "no-such-program-anywhere", "sh")[number % 3]
            parent.start(turn * 100 + number, program, settings=settings, timeout=60.0)
        for number in range(100):
            parent.receive(kinds=(frames.EXIT, frames.FAILED), number=turn * 100 + number)
    assert parent.answers()
    assert sorted(os.listdir(fds)) == before
    assert children_of(parent.pid) == []


def test_a_program_that_waits_for_its_own_turn_hears_everything(parent):
    """A pipe that ends before the program does is no end."""
    with program("ready()\nimport time\ntime.sleep(60)") as pid:
        parent.start(1, "sh", "-c", f"exec >&- 2>&-; while [ -d /proc/{pid} ]; do sleep 0.01; done; exit 3")
        parent.started(1)
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert parent.result(1).returncode == 3
