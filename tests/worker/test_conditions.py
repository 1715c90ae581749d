"""The conditions that programs find: environment, directory, signals."""

import contextlib
import ctypes
import errno
import itertools
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from contract.support import argv_of

from aiocmdpool.standalone.wire import frames, messages

from .fake_parent import FakeParent
from .support import PATIENCE

PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2

linux = pytest.mark.skipif(sys.platform != "linux", reason="takes capabilities(7) and /proc")


def test_a_c_locale_is_not_changed_for_programs(ready):
    """CPython sets LC_CTYPE for itself then (PEP 538)."""
    plain = {name: value for name, value in os.environ.items() if name not in ("LC_ALL", "LC_CTYPE", "LANG")}
    for given in (plain, {**plain, "LC_CTYPE": "C"}, {**plain, "LC_CTYPE": "", "LC_ALL": ""}):
        with FakeParent(env=given) as parent:
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
        assert parent.failure(4) == (errno.ENOENT, "cwd")
        parent.start(5, "true")
        assert parent.result(5).returncode == 0


def test_the_environment_is_that_of_the_worker_with_the_differences():
    with FakeParent(env={"PATH": os.environ["PATH"], "A": "1", "B": "2"}) as parent:
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


def ignored_signals(sets: dict[str, int]) -> set[int]:
    """But for 32 and 33, which belong to the C library."""
    return {number for number in range(1, 32) if sets["SigIgn"] & 1 << number - 1}


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
    assert ignored_signals(sets) == {signal.SIGINT, signal.SIGHUP, signal.SIGUSR1}
    assert sets["SigBlk"] == 0


@pytest.mark.parametrize("settings", [[], [b"umask=18"]], ids=["posix_spawn", "fork"])
def test_programs_do_not_ignore_what_the_worker_ignores(settings):
    def host_with_default_signals() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    with FakeParent(preexec_fn=host_with_default_signals) as parent:
        parent.start(1, "cat", "/proc/self/status", settings=settings)
        sets = signal_sets(parent.result(1).stdout)
    assert sets["SigBlk"] == 0
    assert ignored_signals(sets) == set()


def without_exceptions_for_root() -> None:
    """What stands in the way of an ordinary user stands in the way of the worker (capabilities(7))."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "PR_CAPBSET_DROP")


class Travels:
    """A worker whose programs say where they are."""

    def __init__(self, parent: FakeParent) -> None:
        self.parent = parent
        self.numbers = itertools.count(1)

    def run(self, **options: object) -> bytes | tuple[int, str]:
        """Where a program has been, or why it has not run."""
        self.parent.start(number := next(self.numbers), "readlink", "/proc/self/cwd", **options)
        kind, _, payload = self.parent.receive(kinds=(frames.EXIT, frames.FAILED), number=number)
        if kind == frames.FAILED:
            return messages.unpack_failed(payload)
        return messages.unpack_exit(payload).stdout.strip()


@linux
@pytest.mark.parametrize("settings", [[], [b"umask=18"]], ids=["posix_spawn", "fork"])
def test_a_program_runs_where_it_should_or_not_at_all_when_the_way_home_is_barred(tmp_path, settings):
    """A worker that cannot go back says so of those that belong there, and not of the one that it has started."""
    home, other = (os.fsencode((tmp_path / name).resolve()) for name in ("home", "other"))
    os.mkdir(home)
    os.mkdir(other)
    with FakeParent(cwd=home, preexec_fn=without_exceptions_for_root) as parent:
        worker = Travels(parent)
        for _ in range(2):
            assert worker.run(cwd=other) == other
            assert worker.run(settings=settings) == home
        os.chmod(home, 0)
        try:
            deadline = time.monotonic() + PATIENCE
            while (seen := worker.run(settings=settings)) != (errno.EACCES, "cwd"):
                assert seen == home  # a child has asked whether the other is local; the worker has not been there
                assert worker.run(cwd=other) == other
                assert time.monotonic() < deadline
            assert worker.run(cwd=b".", settings=settings) == (errno.EACCES, "cwd")
            assert worker.run(cwd=other) == other
        finally:
            os.chmod(home, 0o755)
        assert worker.run(settings=settings) == home


@linux
@pytest.mark.parametrize("mode", [0o111, 0])
def test_a_worker_starts_in_a_directory_that_it_may_not_read(tmp_path, mode):
    home = tmp_path / "home"
    home.mkdir()
    with contextlib.ExitStack() as stack:
        stack.callback(home.chmod, 0o755)
        bar = lambda: (without_exceptions_for_root(), home.chmod(mode))  # noqa: E731  # it is in there already
        parent = stack.enter_context(FakeParent(cwd=home, preexec_fn=bar))
        for number in range(3):
            parent.start(number, "pwd", "-P", cwd=b"/")
            assert parent.result(number).stdout == b"/\n"
            parent.start(number, "readlink", "/proc/self/cwd")
            assert parent.result(number).stdout.strip() == os.fsencode(home.resolve())


def test_a_worker_that_was_started_by_descriptors_leaves_nothing_to_search_in():
    """Whatever gets such a number next would be searched for modules and libraries."""
    program = """\
import os, sys
from aiocmdpool.standalone.worker import main

prefix, package = (os.open("/", os.O_PATH) for _ in "12")
sys.executable, main.__file__ = f"/proc/self/fd/{prefix}/bin/python", f"/proc/self/fd/{package}/worker/main.py"
main.leave_the_way_here()
print(sys.path, [os.readlink(f"/proc/self/fd/{fd}") for fd in (prefix, package)])
print([os.get_inheritable(fd) for fd in (prefix, package)], os.open(".", os.O_PATH) in (prefix, package))
"""
    ran = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert ran.stdout == "[] ['/dev/null', '/dev/null']\n[False, False] False\n"
