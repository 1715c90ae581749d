"""A detached run has a shim: what it leaves is below that, lives as long as it likes, and dies if the run is ended."""

import os
import signal

import psutil
import pytest
from contract.support import is_dead

from aiocmdpool.standalone.wire import frames, messages

from .support import SOON, assert_all_die

DAEMON = '(setsid env -i sh -c \'echo $$ >"$1"; exec sleep 60\' sh "$1" >/dev/null 2>&1 &)'


def start(parent, number: int, script: str, *words: str, **options) -> None:
    parent.start(number, "sh", "-c", script, "sh", *words, flags=messages.DETACH, **options)


def shim_of(result: messages.Exit) -> int:
    assert result.flags & messages.LEFT_ALONE
    [(shim, _)] = result.leaked
    return shim


def test_the_result_is_that_of_the_program(parent):
    script = "echo out; echo err >&2; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; exit 7"
    start(parent, 1, script)
    pid = parent.started(1)
    result = parent.result(1)
    assert (result.returncode, result.stdout, result.stderr, result.pid) == (7, b"out\n", b"err\n", pid)
    assert result.user > 0.01
    shim = shim_of(result)
    assert shim != pid
    assert_all_die(shim)  # nothing is below it


def test_the_program_is_signalled_alone(parent, ready):
    start(parent, 1, 'trap "echo told; exit 5" USR1; echo $$ >"$1"; while :; do sleep 0.01; done', ready.path)
    pid = parent.started(1)
    assert int(ready.wait_blocking()) == pid
    parent.send(frames.SIGNAL, 1, bytes([signal.SIGUSR1]))
    result = parent.result(1)
    assert (result.returncode, result.stdout) == (5, b"told\n")


@pytest.mark.parametrize("what", ["missing", "cwd", "user"])
def test_a_start_that_fails_says_why(parent, what):
    program = "no-such-program-anywhere" if what == "missing" else "true"
    options = {"cwd": {"cwd": b"/no/such/place"}, "user": {"settings": [b"user=no-such-user"]}}.get(what, {})
    parent.start(1, program, flags=messages.DETACH, **options)
    number, stage = parent.failure(1)
    assert stage == {"missing": "program"}.get(what, what)
    assert number == (0 if what == "user" else 2)
    assert parent.answers()


@pytest.mark.parametrize("way", ["cancelled", "timed out"])
def test_what_is_ended_is_ended_with_all_that_is_below_the_shim(parent, ready, way):
    script = f'{DAEMON}; trap "" TERM; sleep 60'
    start(parent, 1, script, ready.path, grace=0.2, timeout=messages.NONE if way == "cancelled" else 1.0)
    daemon = int(ready.wait_blocking())
    program = parent.started(1)
    shim = psutil.Process(program).ppid()
    assert psutil.Process(daemon).ppid() == shim
    if way == "cancelled":
        parent.cancel(1)
    result = parent.result(1)
    assert result.returncode == -signal.SIGKILL
    assert is_dead(daemon)
    assert is_dead(program)
    assert_all_die(shim)


def test_a_daemon_outlives_its_worker(parent, ready):
    start(parent, 1, f"{DAEMON}; exit 0", ready.path)
    daemon = int(ready.wait_blocking())
    shim = shim_of(parent.result(1))
    parent.send(frames.CLOSE)
    assert parent.wait() == 0
    assert not is_dead(daemon)
    assert not is_dead(shim)
    os.kill(daemon, signal.SIGKILL)
    assert_all_die(daemon, shim)


@pytest.mark.parametrize("ended", [False, True], ids=["while it runs", "while it is ended"])
def test_all_of_it_dies_when_the_worker_is_killed(parent, ready, ended):
    script = f'{DAEMON}; trap "echo asked >$1" TERM; echo $$ >"$1"; while :; do sleep 0.01; done'
    start(parent, 1, script, ready.path, grace=60.0)
    pids = [int(ready.wait_blocking()) for _ in range(2)]
    pids.append(psutil.Process(pids[0]).ppid())
    if ended:
        parent.cancel(1)
        assert ready.wait_blocking() == b"asked"
    os.kill(parent.pid, signal.SIGKILL)
    assert_all_die(*pids, seconds=SOON)


def test_a_shim_that_is_killed_leaves_nothing(parent, ready):
    start(parent, 1, f'{DAEMON}; echo $$ >"$1"; sleep 60', ready.path)
    pids = [int(ready.wait_blocking()) for _ in range(2)]
    parent.started(1)
    os.kill(psutil.Process(pids[0]).ppid(), signal.SIGKILL)
    result = parent.result(1)
    assert result.returncode == -signal.SIGKILL
    parent.start(2, "true")
    parent.result(2)
    assert_all_die(*pids)


def test_signals_to_the_group_do_not_end_the_shim(parent, ready):
    start(
        parent, 1, 'trap "" HUP INT QUIT TERM USR1 USR2; kill -HUP 0; kill -USR1 0; kill -USR2 0; kill -TERM 0; exit 4'
    )
    assert parent.result(1).returncode == 4
