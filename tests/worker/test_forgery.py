"""What a process says of itself is hostile input: it blames no neighbour, spares nobody, and ends no worker."""

import os
import signal

import psutil
import pytest
from contract.support import is_dead

from aiocmdpool.standalone.wire import messages

from .support import assert_all_die, wait_until

pytestmark = pytest.mark.slow

# The stray says its pid, and lets its run go on.
ORPHAN = '(setsid sh -c \'echo $$ >"$1"; exec sleep 60\' sh "$1" >/dev/null 2>&1 &)'


def mark_of(pid: int) -> str:
    return psutil.Process(pid).environ()["AIOCMDPOOL_RUN"]


def start_neighbour(parent, number: int = 1, flags: int = 0) -> int:
    parent.start(number, "sleep", "60", flags=flags)
    return parent.started(number)


def end_neighbour(parent, pid: int, number: int = 1) -> messages.Exit:
    """Have a neighbour exit by itself, as far as its worker can tell."""
    os.kill(pid, signal.SIGTERM)
    return parent.result(number)


def assert_unblamed(result: messages.Exit) -> None:
    assert (result.reason, result.leaked, result.tier) == (messages.EXITED, [], messages.NOTHING)


@pytest.mark.parametrize(
    "forged",
    [
        "${c}:" + "9" * 5000,
        "${c}:99999",
        "${c}+99999",
        "${c}+1",
        "${c}:-1",
        "${c}:1,${c}:1",
        ":",
        "$(printf '\\377\\376:1')",
        "${c}:\u0661",
        "x" * 60000,
    ],
    ids=[
        "5,000 digits",
        "no run",
        "no detached run",
        "detached",
        "minus",
        "twice",
        "empty",
        "no text",
        "digit",
        "long",
    ],
)
def test_no_mark_blames_a_neighbour_or_spares_a_stray_or_ends_a_worker(parent, ready, release, forged):
    neighbour = start_neighbour(parent)
    script = f'c=${{AIOCMDPOOL_RUN%:*}}; export AIOCMDPOOL_RUN="{forged}"; {ORPHAN}; read x <"$2"'
    parent.start(2, "sh", "-c", script, "sh", ready.path, release.path)
    stray = int(ready.wait_blocking())
    wait_until(lambda: psutil.Process(stray).ppid() == parent.pid)
    release.send()
    parent.result(2)
    assert parent.answers()
    assert not is_dead(neighbour)
    assert_unblamed(end_neighbour(parent, neighbour))
    assert_all_die(stray)


@pytest.mark.parametrize("flags", [0, messages.DETACH], ids=["a plain one", "a detached one"])
def test_the_mark_of_a_neighbour_neither_blames_it_nor_spares_a_stray(parent, ready, release, flags):
    neighbour = start_neighbour(parent, flags=flags)
    script = f'export AIOCMDPOOL_RUN="{mark_of(neighbour)}"; {ORPHAN}; read x <"$2"'
    parent.start(2, "sh", "-c", script, "sh", ready.path, release.path)
    stray = int(ready.wait_blocking())
    release.send()
    parent.result(2)
    parent.start(3, "true")
    parent.result(3)
    assert not is_dead(neighbour)
    result = end_neighbour(parent, neighbour)
    assert result.reason == messages.EXITED
    assert stray not in [pid for pid, _ in result.leaked]
    assert_all_die(stray)


def test_what_its_own_run_has_started_is_ended_with_it_whatever_its_mark_says(parent, ready):
    """It is below its program when that is ended, and is remembered."""
    neighbour = start_neighbour(parent)
    script = f'AIOCMDPOOL_RUN="{mark_of(neighbour)}" setsid sh -c \'echo $$ >"$1"; exec sleep 60\' sh "$1" & wait'
    parent.start(2, "sh", "-c", script, "sh", ready.path)
    stray = int(ready.wait_blocking())
    parent.cancel(2)
    parent.result(2)
    assert is_dead(stray)
    assert_unblamed(end_neighbour(parent, neighbour))


JOIN = """
import os, sys, time
group, path, mark, seconds = sys.argv[1:]
until_exec, child_end = os.pipe()
if os.fork() == 0:
    os.setpgid(0, int(group))
    with open(path, "w") as ready:
        print(os.getpid(), file=ready)
    os.execve("/bin/sleep", ["sleep", "60"], {} if mark == "wiped" else os.environ)
os.close(child_end)
os.read(until_exec, 1)
time.sleep(int(seconds))
"""


def start_joining(parent, ready, group: int, mark: str, seconds: int) -> int:
    """Start a run whose child joins another group; the pid of the child."""
    parent.start(2, "python3", "-I", "-S", "-c", JOIN, str(group), ready.path, mark, str(seconds), grace=0.2)
    joined = int(ready.wait_blocking())
    assert os.getpgid(joined) == group
    return joined


@pytest.mark.parametrize("mark", ["kept", "wiped"])
def test_who_joins_the_group_of_a_neighbour_is_still_of_its_own_run(parent, ready, mark):
    neighbour = start_neighbour(parent)
    joined = start_joining(parent, ready, neighbour, mark, 60)
    assert_unblamed(end_neighbour(parent, neighbour))
    other = start_neighbour(parent, 3)
    parent.cancel(2)
    parent.result(2)
    assert is_dead(joined)
    assert_unblamed(end_neighbour(parent, other, 3))


@pytest.mark.parametrize("mark", ["kept", "wiped"])
def test_an_orphan_in_the_group_of_a_neighbour_does_not_blame_it(parent, ready, mark):
    neighbour = start_neighbour(parent)
    joined = start_joining(parent, ready, neighbour, mark, 0)
    parent.result(2)
    assert not is_dead(neighbour)
    assert_unblamed(end_neighbour(parent, neighbour))
    assert_all_die(joined)


def test_a_program_that_joins_the_group_of_a_neighbour_is_not_left_behind_by_it(parent, ready, release):
    script = 'sleep 60 >/dev/null 2>&1 & sleep 60 >/dev/null 2>&1 & echo $$ >"$1"; read x <"$2"'
    parent.start(1, "sh", "-c", script, "sh", ready.path, release.path)
    neighbour = int(ready.wait_blocking())
    joining = (
        "import os, sys, time; os.setpgid(0, int(sys.argv[1])); open(sys.argv[2], 'w').write('in\\n'); time.sleep(60)"
    )
    parent.start(2, "python3", "-I", "-S", "-c", joining, str(neighbour), ready.path)
    assert ready.wait_blocking() == b"in"
    other = parent.started(2)
    release.send()
    result = parent.result(1)
    assert other not in [pid for pid, _ in result.leaked]
    assert len(result.leaked) == 2
    assert not is_dead(other)
    parent.cancel(2)
    parent.result(2)


def test_the_command_line_of_a_worker_holds_no_secret(parent):
    parent.hello()
    words = psutil.Process(parent.pid).cmdline()
    assert parent.cookie not in " ".join(words)
