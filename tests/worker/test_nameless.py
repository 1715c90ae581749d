"""Strays that have shed their environment, group and session: held against the runs they can be of, and no others."""

import contextlib
import os
import signal

import psutil
from contract.support import is_dead, is_gone

from aiocmdpool.standalone.wire import messages

from .support import assert_all_die, wait_until

STRAY = 'setsid -f env -i sh -c \'echo $$ >"$1"; echo >"$2"; exec sleep 60\' sh "$1" "$2" >/dev/null 2>&1; read x <"$2"'


def hold(parent, number: int, *, leaves_stray: bool = False, ready=None, release=None) -> int:
    """Start a run that stays until its stdin ends, perhaps after it has left a stray; gives the end to close."""
    read_end, write_end = os.pipe()
    parent.pass_descriptors(number, read_end)
    script = f"{STRAY}; " if leaves_stray else ""
    streams = {"stdin": messages.DESCRIPTOR, "descriptors": 1}
    argv = [ready.path, release.path] if leaves_stray else []
    parent.start(number, "sh", "-c", f"exec 3<&0; {script}read x <&3", "sh", *argv, **streams)
    os.close(read_end)
    return write_end


def pid_of_stray(parent, ready) -> int:
    """A stray has said it, and has come back to the worker: whoever forked it is gone."""
    pid = int(ready.wait_blocking())
    wait_until(lambda: psutil.Process(pid).ppid() == parent.pid)
    return pid


def let_go(parent, number: int, end: int) -> messages.Exit:
    os.close(end)
    return parent.result(number)


def make_it_look(parent, number: int) -> None:
    """A worker looks for strays when a child has exited."""
    parent.start(number, "true")
    assert parent.result(number).leaked == []


def test_a_nameless_stray_dies_with_the_last_of_the_runs_it_can_be_of(parent, ready, release):
    one = hold(parent, 1)
    two = hold(parent, 2, leaves_stray=True, ready=ready, release=release)
    stray = pid_of_stray(parent, ready)
    make_it_look(parent, 10)
    assert let_go(parent, 2, two).leaked == []  # it may be that of the other
    later = hold(parent, 3)
    make_it_look(parent, 11)
    assert not is_dead(stray)
    assert let_go(parent, 1, one).leaked == []
    assert_all_die(stray)
    assert parent.answers()
    result = let_go(parent, 3, later)
    assert (result.returncode, result.leaked, result.tier) == (1, [], messages.NOTHING)


def test_it_dies_as_soon_when_its_own_run_is_the_last(parent, ready, release):
    one = hold(parent, 1)
    two = hold(parent, 2, leaves_stray=True, ready=ready, release=release)
    stray = pid_of_stray(parent, ready)
    make_it_look(parent, 10)
    later = hold(parent, 3)
    let_go(parent, 1, one)
    let_go(parent, 2, two)
    assert_all_die(stray)
    assert let_go(parent, 3, later).leaked == []


def test_each_of_several_dies_with_the_runs_that_were_there_when_it_came(parent, ready, release):
    one = hold(parent, 1)
    two = hold(parent, 2, leaves_stray=True, ready=ready, release=release)
    first = pid_of_stray(parent, ready)
    make_it_look(parent, 10)
    let_go(parent, 1, one)
    three = hold(parent, 3, leaves_stray=True, ready=ready, release=release)
    second = pid_of_stray(parent, ready)
    make_it_look(parent, 11)
    later = hold(parent, 4)
    let_go(parent, 2, two)
    assert_all_die(first)
    assert not is_dead(second)
    let_go(parent, 3, three)
    assert_all_die(second)
    let_go(parent, 4, later)


def test_it_dies_though_the_runs_it_can_be_of_were_ended_rather_than_ended_themselves(parent, ready, release):
    one = hold(parent, 1)
    two = hold(parent, 2, leaves_stray=True, ready=ready, release=release)
    stray = pid_of_stray(parent, ready)
    make_it_look(parent, 10)
    later = hold(parent, 3)
    for number in (1, 2):
        parent.cancel(number)
        assert parent.result(number).returncode == -signal.SIGTERM
    assert_all_die(stray)
    assert not is_dead(parent.pid)
    let_go(parent, 3, later)
    os.close(one)
    os.close(two)


def test_a_stray_that_ends_by_itself_is_forgotten(parent, ready, release):
    """Its number may be given to another process, which is then not to be killed for it."""
    one = hold(parent, 1)
    two = hold(parent, 2, leaves_stray=True, ready=ready, release=release)
    stray = pid_of_stray(parent, ready)
    make_it_look(parent, 10)
    let_go(parent, 2, two)
    with contextlib.suppress(ProcessLookupError):  # seen below its program before it was an orphan, it died with that
        os.kill(stray, signal.SIGKILL)
    make_it_look(parent, 11)
    assert_all_die(stray)
    make_it_look(parent, 12)
    assert is_gone(stray)  # and reaped
    assert let_go(parent, 1, one).leaked == []


def test_what_a_detached_run_has_left_is_below_a_shim_and_left_alone(parent, ready, release):
    """It carries neither group nor session nor mark of its run; its descent alone says that it may live."""
    one = hold(parent, 1)
    script = f"{STRAY}; exit 0"
    parent.start(2, "sh", "-c", script, "sh", ready.path, release.path, flags=messages.DETACH)
    stray = int(ready.wait_blocking())
    result = parent.result(2)
    [(shim, _)] = result.leaked
    assert result.flags & messages.LEFT_ALONE
    assert psutil.Process(stray).ppid() == shim
    let_go(parent, 1, one)
    make_it_look(parent, 10)
    make_it_look(parent, 11)
    try:
        assert not is_dead(stray)
    finally:
        os.kill(stray, signal.SIGKILL)
    assert_all_die(stray, shim)  # a shim stays for as long as anything is below it
