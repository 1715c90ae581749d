"""What commands leave behind, by any way out, and a worker that takes it along."""

import os
import signal
import sys

import pytest
from contract.support import argv_of, host_environment, is_dead, is_gone

from aiocmdpool.standalone.wire import frames, messages

from .support import PROGRAMS, assert_all_die

pytestmark = pytest.mark.slow


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
        # Its environment alone says whose it is, while another one runs that it may be of: so nobody may be told.
        assert [pid for pid, _ in parent.result(number).leaked] in ([], [escaped])
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
    assert [pid for pid, _ in parent.result(1).leaked] == [escaped]  # nothing else runs: whose else can it be?
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


def test_an_escapee_that_does_not_say_whose_it_is_is_not_laid_at_the_door_of_another(parent, ready):
    """It stays as long as others run, and is killed with the last of them."""
    parent.start(1, "sleep", "60")
    other = parent.started(1)
    parent.start(2, "sh", "-c", 'setsid env -i sleep 60 >/dev/null 2>&1 & echo $! >"$1"', "sh", ready.path)
    escaped = int(ready.wait_blocking())
    parent.result(2)
    os.kill(other, signal.SIGTERM)
    result = parent.result(1)
    assert (result.returncode, result.leaked) == (-signal.SIGTERM, [])
    assert_all_die(escaped)


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
    """The inner worker leads a session of its own, and what it starts carries a cookie of its own."""
    environment = [os.fsencode(f"PYTHONPATH={host_environment()['PYTHONPATH']}")]
    inner = [sys.executable, str(PROGRAMS / "parent.py"), "-1", "-1", ready.path, "2", *argv_of("sleep_after_ready")]
    parent.start(1, *inner, "/dev/null", environment=environment)
    pids = [int(word) for word in ready.wait_blocking().split()]
    assert len(pids) == 3
    parent.start(2, "sleep", "60")  # whose they are has to be told by something else than that nothing else runs
    parent.started(2)
    parent.cancel(1)
    parent.result(1)
    assert_all_die(*pids)
    assert not is_dead(parent.pid)
    parent.cancel(2)
    assert parent.result(2).leaked == []


def test_what_a_detached_run_left_and_is_gone_does_not_hide_what_another_leaves(parent, ready):
    """It dies while its pipe is still drained: before anybody could note that it was left alone."""
    parent.start(1, "sh", "-c", "sleep 0.1 & sleep 0.1 & exit 0", flags=messages.DETACH)
    assert parent.result(1).flags & messages.LEFT_ALONE
    parent.start(2, "sh", "-c", 'setsid sleep 60 >/dev/null 2>&1 & echo $! >"$1"', "sh", ready.path)
    escaped = int(ready.wait_blocking())
    assert [pid for pid, _ in parent.result(2).leaked] == [escaped]
    assert_all_die(escaped)
