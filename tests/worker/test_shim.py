"""A detached run has a shim: what it leaves is below that, lives as long as it likes, and dies if the run is ended."""

import os
import resource
import signal

import psutil
import pytest
from contract.support import is_dead

from aiocmdpool.standalone.wire import frames, messages

from .support import SOON, assert_all_die, wait_until

pytestmark = pytest.mark.slow

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
    script = f'{DAEMON}; trap "" TERM; echo $$ >"$1"; sleep 60'
    start(parent, 1, script, ready.path, grace=0.2, timeout=messages.NONE if way == "cancelled" else 4.0)
    said = {int(ready.wait_blocking()) for _ in range(2)}
    program = parent.started(1)
    [daemon] = said - {program}
    shim = psutil.Process(program).ppid()
    wait_until(lambda: psutil.Process(daemon).ppid() == shim)  # when its own parent has left
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


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside another"])
def test_a_shim_that_is_killed_is_an_error_and_leaves_nothing(parent, ready, release, beside):
    if beside:
        parent.start(9, "sleep", "60")
        parent.started(9)
    script = f'{DAEMON}; echo $$ >"$1"; read x <"$2"; kill -9 $PPID; exec sleep 60'
    start(parent, 1, script, ready.path, release.path)
    pids = [int(ready.wait_blocking()) for _ in range(2)]
    release.send()
    assert "its shim has died" in parent.failure(1)[1]
    parent.start(2, "true")
    parent.result(2)
    if beside:  # a daemon that says nothing of itself dies with the last that it can be of
        parent.cancel(9)
        parent.result(9)
    assert_all_die(*pids)


def test_a_shim_that_is_stopped_goes_on(parent):
    start(parent, 1, "kill -STOP $PPID; echo out; exit 3")
    result = parent.result(1)
    assert (result.returncode, result.stdout) == (3, b"out\n")


def test_many_failures_to_start_are_told_as_failures(parent):
    for number in range(1, 60):
        if number % 2:
            parent.start(number, "no-such-program", flags=messages.DETACH)
            assert parent.failure(number) == (2, "program")
        else:
            parent.start(number, "true", cwd=b"/no/such/place", flags=messages.DETACH)
            assert parent.failure(number) == (2, "cwd")


def test_a_shim_without_descriptors_or_processes_does_not_pass_for_a_success(parent):
    parent.hello()
    resource.prlimit(parent.pid, resource.RLIMIT_NOFILE, (40, 40))
    for number in range(1, 40):
        parent.start(number, "sh", "-c", "echo ran; exec sleep 60", flags=messages.DETACH)
    started = failed = 0
    for _ in range(39):
        kind, _, payload = parent.receive(kinds=(frames.STARTED, frames.FAILED, frames.EXIT))
        assert kind != frames.EXIT, messages.unpack_exit(payload)
        started += kind == frames.STARTED
        failed += kind == frames.FAILED
    assert started
    assert failed


def test_a_signal_that_does_not_exist_ends_nobody(parent):
    parent.start(1, "sleep", "60")
    parent.started(1)
    parent.send(frames.SIGNAL, 1, bytes([200]))
    assert parent.answers()
    parent.cancel(1)
    assert parent.result(1).returncode == -signal.SIGTERM


def test_signals_to_the_group_do_not_end_the_shim(parent, ready):
    start(
        parent, 1, 'trap "" HUP INT QUIT TERM USR1 USR2; kill -HUP 0; kill -USR1 0; kill -USR2 0; kill -TERM 0; exit 4'
    )
    assert parent.result(1).returncode == 4
