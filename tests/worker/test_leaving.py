"""How a worker leaves: when it is closed, and when its parent is gone."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest
from contract.support import argv_of, host_environment, is_dead, pattern

import aiocmdpool.standalone
from aiocmdpool.standalone.wire import frames, messages

from . import fake_parent
from .fake_parent import FakeParent, hostile_commands
from .support import PATIENCE, PROGRAMS, SOON, assert_all_die, is_idle, readable, start_payload, wait_until

pytestmark = pytest.mark.slow

# -- leaving ---------------------------------------------------------------------------------------------------------


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
    assert {kind for kind, _, _ in parent.everything()} <= {frames.HELLO, frames.STARTED}
    assert parent.last_words() == ""


def test_an_idle_worker_that_is_closed_leaves_at_once(parent):
    parent.hello()
    parent.send(frames.CLOSE)
    assert parent.wait() == 0
    assert parent.everything() == []


def test_a_command_can_be_cancelled_after_close(parent):
    parent.start(1, "sleep", "60")
    parent.started(1)
    parent.send(frames.CLOSE)
    parent.cancel(1)
    assert parent.result(1).reason == messages.CANCELLED
    assert parent.wait() == 0


def test_no_reply_is_lost_when_a_worker_leaves_whose_parent_is_slow(parent):
    """More than a pipe holds, some of it as descriptors."""
    small, large = ("head", "-c", "65000", "/dev/zero"), argv_of("write_n_bytes", 100_000)
    for number in range(1, 13):
        parent.start(number, *(small if number < 9 else large))
    parent.send(frames.CLOSE)
    wait_until(lambda: is_idle(parent.pid) and readable(parent.replies))
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


def test_a_worker_takes_no_new_work_while_its_parent_reads_nothing(parent, tmp_path):
    parent.hello()
    loud, last = 40, 41
    for number in range(1, loud + 1):
        parent.start(number, "head", "-c", "65000", "/dev/zero")
    wait_until(lambda: readable(parent.replies, 0) and is_idle(parent.pid))
    marker = tmp_path / "marker"
    parent.start(last, "touch", str(marker))
    answered = [parent.result(number) for number in range(1, loud + 1)]
    assert all(result.stdout == bytes(65000) for result in answered)
    parent.result(last)
    assert marker.exists()


# -- without a parent ------------------------------------------------------------------------------------------------


def test_a_worker_whose_pipe_ends_takes_everything_along_within_a_second(parent, ready):
    pids = hostile_commands(parent, ready)
    started = time.monotonic()
    parent.close_requests()
    assert parent.wait() == 0
    assert_all_die(*pids, seconds=SOON)
    assert time.monotonic() - started < SOON


def test_programs_are_asked_first_when_the_parent_is_gone(ready, tmp_path, monkeypatch):
    folder = tmp_path / "standalone"
    shutil.copytree(aiocmdpool.standalone.__path__[0], folder, ignore=shutil.ignore_patterns("__pycache__"))
    before, grace, after = (folder / "worker" / "server.py").read_text().partition("ORPHANED_GRACE = 0.4")
    assert grace
    (folder / "worker" / "server.py").write_text(f"{before}ORPHANED_GRACE = {PATIENCE}{after}")  # for a busy machine
    monkeypatch.setattr(fake_parent, "FOLDER", str(folder))
    farewell = tmp_path / "farewell"
    script = f"trap 'echo bye >{farewell}; exit 0' TERM; echo $$ >{ready.path}; while :; do sleep 0.05; done"
    with FakeParent() as parent:
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


def test_a_worker_alone_is_quiet_until_it_has_left(host, release):
    """The death of the parent is an event that stays: whoever looks at it again and again is busy."""
    process, worker, [pid] = host(1, *argv_of("ignore_sigterm", release.path))
    assert int(release.wait_blocking()) == pid
    alone = psutil.Process(worker)
    before = now = alone.cpu_times()
    process.kill()
    process.wait()
    with contextlib.suppress(psutil.NoSuchProcess):
        while not is_dead(worker):
            now = alone.cpu_times()
            time.sleep(0.005)
    assert now.user + now.system - before.user - before.system < 0.15  # of the 0.4 s that it gives its programs
    assert_all_die(pid)


def test_a_worker_does_not_wait_for_replies_to_be_read_once_its_parent_is_gone(ready):
    """Somebody else, forked from the host, holds the other ends open and reads nothing."""
    with FakeParent() as parent:
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
