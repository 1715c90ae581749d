"""Many commands in one worker, few descriptors for it, and what it costs when it has nothing to do."""

import errno
import os
import re
import resource
import signal
import time
from pathlib import Path

import psutil
import pytest
from contract.hosts import drop_privileges
from contract.support import argv_of, is_dead, is_gone

from aiocmdpool.standalone.wire import frames, messages

from .fake_parent import FakeParent
from .support import assert_all_die, children_of, program, wait_until

pytestmark = pytest.mark.slow

# -- many ------------------------------------------------------------------------------------------------------------


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


def take_descriptors_from(pid: int) -> None:
    """From now on it can open nothing."""
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, 20_000))


def give_descriptors_back(pid: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (1024, 20_000))


def test_a_worker_whose_descriptors_run_out_refuses_and_works_on(parent):
    parent.hello()
    resource.prlimit(parent.pid, resource.RLIMIT_NOFILE, (40, 40))
    for number in range(40):
        parent.start(number, "sleep", "60", settings=[b"umask=18"] if number % 2 else [])
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


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside another"])
def test_what_is_left_behind_is_killed_also_when_there_are_no_descriptors(parent, ready, release, beside):
    """Without them /proc cannot be read."""
    if beside:
        parent.start(9, "sleep", "60")
        parent.started(9)
    script = 'sleep 60 >/dev/null 2>&1 & echo $! >"$1"; read x <"$2"'
    parent.start(1, "sh", "-c", script, "sh", ready.path, release.path)
    left = int(ready.wait_blocking())
    parent.started(1)
    take_descriptors_from(parent.pid)
    release.send()
    parent.result(1)
    assert_all_die(left)
    parent.start(2, "true")
    assert parent.failure(2)[0] == errno.EMFILE
    give_descriptors_back(parent.pid)
    parent.start(3, "true")
    assert parent.result(3).returncode == 0


def test_large_output_without_descriptors_is_an_error_and_no_end(parent, ready, release):
    script = 'echo >"$1"; read x <"$2"; exec head -c 200000 /dev/zero'
    parent.start(1, "sh", "-c", script, "sh", ready.path, release.path)
    ready.wait_blocking()
    parent.started(1)
    take_descriptors_from(parent.pid)
    release.send()
    assert parent.failure(1) == (errno.EMFILE, "output")
    give_descriptors_back(parent.pid)
    parent.start(2, *argv_of("write_n_bytes", 200_000))
    parent.result(2)
    _, [spool] = parent.take_descriptors()
    assert os.fstat(spool).st_size == 200_000
    os.close(spool)


# -- what it costs ---------------------------------------------------------------------------------------------------


def test_it_imports_nothing_that_makes_it_slow_or_large():
    with FakeParent(interpreter=("-X", "importtime")) as parent:
        parent.start(1, "true")
        assert parent.result(1).returncode == 0
        parent.send(frames.CLOSE)
        assert parent.wait() == 0
        imported = {line.rpartition("|")[2].strip() for line in parent.last_words().splitlines()}
    assert "standalone.worker.server" in imported
    slow = {
        "aiocmdpool",
        "asyncio",
        "dataclasses",
        "logging",
        "re",
        "signal",
        "site",
        "subprocess",
        "threading",
        "typing",
    }
    large = {"array", "collections", "enum", "socket"}
    assert imported & (slow | large) == set()


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


def test_more_descriptors_on_their_way_than_a_user_may_have_is_not_the_end_of_the_parent():
    """sendmsg(2) then fails with ETOOMANYREFS (unix(7)), but for the privileged."""

    def unprivileged_and_few() -> None:
        drop_privileges()
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))

    with FakeParent(preexec_fn=unprivileged_and_few) as parent:
        parent.start(999, "sleep", "60")
        pid = parent.started(999)
        count, seen, taken, patience = 100, 0, 0, 40
        for number in range(5):  # a few at a time: they need descriptors too
            parent.start(number, "head", "-c", "70000", "/dev/zero")
        while seen < count:
            try:
                assert parent.result(seconds=0.5).flags == messages.STDOUT_HANDED_OVER
                seen += 1
                if seen + 5 <= count:
                    parent.start(seen + 5, "head", "-c", "70000", "/dev/zero")
            except TimeoutError:  # no more of them fit, or the machine is busy
                patience -= 1
                assert patience, "nothing arrives, and nothing waits to be taken"
                while taken < seen:
                    _, [spool] = parent.take_descriptors()
                    assert os.fstat(spool).st_size == 70_000
                    os.close(spool)
                    taken += 1
        assert taken > 0, "this system takes any number"
        for _ in range(count - taken):
            os.close(parent.take_descriptors()[1][0])
        assert not is_dead(pid)
        parent.cancel(999)
        assert parent.result(999).reason == messages.CANCELLED
