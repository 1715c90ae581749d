"""The conditions that programs find: environment, directory, signals."""

import errno
import os
import re
import signal

import pytest
from contract.support import argv_of

from .fake_parent import FakeParent


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
