"""A host that changes what it is (user, umask, CPUs, limits, …) between two commands."""

import os
import shutil
import sys
from typing import Any

import pytest

import aiocmdpool

from . import support
from .identity_hosts import NOBODY
from .privileges import needs_capability
from .support import literals_of

pytestmark = pytest.mark.slow

loops = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
able_to_drop_root = needs_capability("CAP_SETUID", "CAP_SETGID", "CAP_DAC_READ_SEARCH")

OF_ROOT = ("bounding", "network", "mounts", "names")  # that take a privilege
PER_THREAD = (*OF_ROOT, "niceness", "privileges", "cpus", "scheduler", "root")  # the last because of its capabilities
able_to_leave = needs_capability("CAP_SYS_ADMIN", "CAP_SETPCAP")


def see(scenario: str, backend: str, loop: str, *args: object) -> list[Any]:
    argv = [sys.executable, "-W", "error", "-m", "contract.identity_hosts", scenario, backend, loop, *map(str, args)]
    return literals_of(*argv)


def assert_followed(before: str, *seen: str) -> None:
    *after, expected = seen
    assert expected != before
    assert set(after) == {expected}


def skip_unless_of_the_process(backend: str, change: str) -> None:
    if change == "niceness" and os.getpriority(os.PRIO_PROCESS, 0) == 19:
        pytest.skip("there is no room for more niceness (setpriority(2))")
    if backend == "thread" and change in PER_THREAD:
        pytest.skip("Linux keeps it for each thread, and programs are started by threads that were there before")


@loops
@pytest.mark.parametrize("change", ["umask", "limits", "niceness", "privileges", "scheduler"])
def test_commands_run_as_what_the_host_has_become(backend_name, loop, change):
    skip_unless_of_the_process(backend_name, change)
    assert_followed(*see("changes", backend_name, loop, change))


@loops
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs a CPU to give up")
def test_commands_run_on_the_cpus_that_the_host_has_left(backend_name, loop):
    skip_unless_of_the_process(backend_name, "cpus")
    assert_followed(*see("changes", backend_name, loop, "cpus"))


@able_to_leave
@loops
@pytest.mark.parametrize("change", OF_ROOT)
def test_commands_run_in_the_namespaces_and_bounds_that_the_host_has_left(backend_name, loop, change):
    skip_unless_of_the_process(backend_name, change)
    assert_followed(*see("changes", backend_name, loop, change))


@loops
@pytest.mark.parametrize("change", ["umask", "cpus", "niceness", "privileges", "scheduler"])
def test_a_host_that_changes_while_a_command_runs_is_followed_in_the_next_turn(loop, change, ready, release):
    skip_unless_of_the_process("process_pool", change)
    if change == "cpus" and len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs a CPU to give up")
    assert_followed(*see("changes_each_turn", "process_pool", loop, ready.path, release.path, change))


@able_to_leave
@loops
@pytest.mark.parametrize("change", ["limits", *OF_ROOT])
def test_what_is_looked_at_less_often_is_followed_as_well(loop, change, ready, release):
    assert_followed(*see("changes_at_last", "process_pool", loop, ready.path, release.path, change))


@able_to_drop_root
@loops
@pytest.mark.parametrize("change", ["groups", "group", "root", "user"])
def test_commands_run_with_the_user_and_groups_that_the_host_has_left(backend_name, loop, change):
    skip_unless_of_the_process(backend_name, change)
    assert_followed(*see("changes", backend_name, loop, change))


@able_to_drop_root
@loops
def test_a_host_that_drops_root_with_all_that_belongs_to_it_is_followed(backend_name, loop):
    skip_unless_of_the_process(backend_name, "root")
    names = ["umask", "cpus", "limits", "niceness", "groups", "root", "privileges"]
    assert_followed(*see("changes", backend_name, loop, *names))


@able_to_drop_root
@loops
@pytest.mark.parametrize("place", ["as it is", "below a closed folder"])
def test_a_host_that_no_longer_finds_its_interpreter_goes_on(loop, place, tmp_path, monkeypatch):
    if place != "as it is":
        shutil.copytree(aiocmdpool.__path__[0], tmp_path / "aiocmdpool", ignore=shutil.ignore_patterns("__pycache__"))
        tmp_path.chmod(0o700)
        environment = {**support.host_environment(), "PYTHONPATH": f"{tmp_path}:{support.TESTS}"}
        monkeypatch.setattr(support, "host_environment", lambda: environment)
    *after, terminal, size, open_to_it, ways_up, before = see("becomes_nobody", "process_pool", loop)
    assert after == [f"{NOBODY}{text.removeprefix('0')}" for text in before]
    assert terminal == b"%d\r\n" % NOBODY
    assert size == 5_000_000
    assert not open_to_it, "a program can use a folder that root has opened"
    assert not ways_up


@needs_capability("CAP_SYS_CHROOT")
@loops
def test_a_host_that_has_locked_itself_in_runs_nothing_outside(backend_name, loop, tmp_path):
    kind, message = see("locks_itself_in", backend_name, loop, tmp_path)
    assert kind == ("WorkerLost" if backend_name == "process_pool" else "IoError")
    if kind == "WorkerLost":
        assert "this process has changed its user, root directory or limits" in message


@able_to_drop_root
@loops
def test_a_host_that_drops_root_while_commands_run_has_them_finish_and_end(loop, ready, release):
    seen = see("drops_root_while_commands_run", "process_pool", loop, ready.path, release.path)
    assert seen == [54321, 0, "TaskCancelled", [False, False]]
