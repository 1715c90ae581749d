"""Starting programs from the worker, in this process."""

import errno
import os
import re
import signal
import stat
import sys
from collections.abc import Callable, Iterator

import pytest
from contract.support import argv_of

from aiocmdpool.standalone.wire import messages
from aiocmdpool.standalone.worker.spawn import Spawned, Spawner, StartFailure

from .support import start_of

BASE = {b"PATH": os.environb[b"PATH"], b"KEPT": b"yes", b"CHANGED": b"before", b"REMOVED": b"here"}


def close_own(spawner: Spawner) -> None:
    for fd in (spawner._null, spawner._home, *spawner._low):
        os.close(fd)


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    spawner = Spawner([signal.SIGPIPE], b"cookie", dict(BASE))
    spawner._places.knows = False  # every place is taken for one that answers, so what can be spawned is
    yield spawner
    close_own(spawner)


@pytest.fixture
def run(spawner) -> Callable[..., tuple[int, bytes, bytes]]:
    """Start a program and wait for it: exit status, stdout, stderr."""

    def run(*argv: str | bytes, descriptors: list[int] = [], **options: object) -> tuple[int, bytes, bytes]:  # noqa: B006
        spawned = spawner.start(start_of(*argv, descriptors=len(descriptors), **options), 7, descriptors)
        return finish(spawned)

    return run


def finish(spawned: Spawned) -> tuple[int, bytes, bytes]:
    output = [read_all(spawned.stdout), read_all(spawned.stderr)]
    _, status = os.waitpid(spawned.pid, 0)
    if spawned.report >= 0:
        os.close(spawned.report)
    return os.waitstatus_to_exitcode(status), *output


def read_all(fd: int) -> bytes:
    if fd < 0:
        return b""
    os.set_blocking(fd, True)
    with os.fdopen(fd, "rb") as file:
        return file.read()


def failure_of(start: Callable[..., object], *args: object, **options: object) -> tuple[int, str]:
    with pytest.raises(StartFailure) as caught:
        start(*args, **options)
    return caught.value.number, caught.value.stage


def test_a_program_gets_its_arguments_and_streams(run):
    assert run("sh", "-c", 'echo "$0-$1"; echo err >&2; exit 7', "a b", "") == (7, b"a b-\n", b"err\n")
    assert run(*argv_of("print_args"), b"\xff\n", b"\t ")[1] == b"\xff\n\0\t \0"


@pytest.mark.parametrize("preparing", [[], [b"umask=63"]], ids=["posix_spawn", "fork"])
def test_a_program_leads_a_group_of_its_own_in_the_session_of_the_worker(run, preparing):
    script = "read -r pid comm state ppid pgrp session rest </proc/$$/stat; echo $pid $pgrp $session"
    status, output, _ = run("sh", "-c", script, settings=preparing)
    pid, group, session = map(int, output.split())
    assert (status, group, session) == (0, pid, os.getsid(0))


def test_a_program_inherits_no_other_descriptors(run):
    keep = os.open(os.devnull, os.O_RDONLY)
    seen = run(*argv_of("print_fds"))[1].split()
    os.close(keep)
    assert seen[:3] == [b"0", b"1", b"2"]
    assert b"%d" % keep not in seen


def test_the_environment_is_the_base_with_the_changes(spawner):
    def environment(*changes: bytes) -> dict[bytes, bytes]:
        seen = spawner.environment_of(start_of("true", environment=list(changes)), 7)
        assert seen.pop(b"AIOCMDPOOL_RUN") == b"cookie:7"
        return seen

    assert environment() == BASE
    changed = environment(b"CHANGED=after=all", b"NEW=", b"REMOVED", b"NEVER_WAS")
    assert changed == {b"PATH": BASE[b"PATH"], b"KEPT": b"yes", b"CHANGED": b"after=all", b"NEW": b""}
    assert environment(b"") == {}
    assert environment(b"", b"ONLY=this") == {b"ONLY": b"this"}
    assert environment(b"", b"KEPT") == {}
    assert environment() == BASE  # no request changes it for the next


def test_a_program_sees_exactly_that_environment(run):
    seen = run(*argv_of("print_env"), environment=[b"", b"ODD=\xff\n="])[1]
    assert sorted(seen.split(b"\0")) == [b"", b"AIOCMDPOOL_RUN=cookie:7", b"ODD=\xff\n="]


def test_an_outer_cookie_is_kept_before_the_own():
    spawner = Spawner([], b"inner", {b"AIOCMDPOOL_RUN": b"outer:3"})
    for changes in ([], [b""], [b"AIOCMDPOOL_RUN=forged"]):
        seen = spawner.environment_of(start_of("true", environment=changes), 8)
        assert seen[b"AIOCMDPOOL_RUN"] == b"outer:3,inner:8"
    close_own(spawner)


@pytest.mark.parametrize("preparing", [[], [b"umask=63"]], ids=["posix_spawn", "fork"])
def test_a_name_is_looked_up_in_the_path_of_the_program(run, tmp_path, preparing):
    for name, code in (("first", 1), ("second", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tool").write_text(f"#!/bin/sh\nexit {code}\n")
    (tmp_path / "third").mkdir()
    (tmp_path / "third" / "tool").mkdir()  # a directory is no program
    (tmp_path / "second" / "tool").chmod(0o755)
    path = os.fsencode(":".join(str(tmp_path / name) for name in ("none", "third", "first", "second")))
    assert run("tool", environment=[b"PATH=" + path], settings=preparing)[0] == 2  # the first is not executable
    (tmp_path / "first" / "tool").chmod(0o755)
    assert run("tool", environment=[b"PATH=" + path], settings=preparing)[0] == 1


def test_a_path_is_relative_to_the_directory_of_the_command(run, tmp_path):
    home = os.getcwd()
    (tmp_path / "tool").write_text("#!/bin/sh\npwd -P\n")
    (tmp_path / "tool").chmod(0o755)
    assert run("./tool", cwd=os.fsencode(tmp_path))[1].strip() == os.fsencode(tmp_path.resolve())
    assert os.getcwd() == home
    assert run("pwd", "-P")[1].strip() == os.fsencode(os.path.realpath(home))


def test_a_failure_says_why_and_leaves_the_worker_where_it_was(spawner, tmp_path):
    home, script = os.getcwd(), tmp_path / "script"
    script.write_text("no interpreter\n")
    start = lambda *argv, **options: spawner.start(start_of(*argv, **options), 7, [])  # noqa: E731
    assert failure_of(start, "no-such-program-anywhere") == (errno.ENOENT, "program")
    assert failure_of(start, str(tmp_path / "missing")) == (errno.ENOENT, "program")
    assert failure_of(start, str(script)) == (errno.EACCES, "program")
    script.chmod(0o755)
    assert failure_of(start, str(script)) == (errno.ENOEXEC, "program")
    assert failure_of(start, str(tmp_path)) == (errno.EACCES, "program")
    assert failure_of(start, "true", cwd=os.fsencode(tmp_path / "none")) == (errno.ENOENT, "cwd")
    assert failure_of(start, "true", cwd=os.fsencode(script)) == (errno.ENOTDIR, "cwd")
    assert failure_of(start, "./none", cwd=os.fsencode(tmp_path)) == (errno.ENOENT, "program")
    assert failure_of(start, "true", "x" * 3_000_000) == (errno.E2BIG, "program")
    assert os.getcwd() == home


def test_what_python_itself_refuses_to_start_is_a_failure_as_well(spawner, monkeypatch):
    def refuse(*_: object, **__: object) -> int:
        raise ValueError("illegal environment variable name")

    monkeypatch.setattr(os, "posix_spawn", refuse)
    assert failure_of(spawner.start, start_of("true"), 7, []) == (errno.EINVAL, "program")


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_a_stream_that_cannot_be_opened_is_named(spawner, tmp_path, name):
    paths = [b"", b"", b""]
    paths[("stdin", "stdout", "stderr").index(name)] = os.fsencode(tmp_path / "none" / "file")
    request = start_of("true", paths=paths, **{name: messages.PATH})
    assert failure_of(spawner.start, request, 7, []) == (errno.ENOENT, name)


def test_handed_over_descriptors_stay_those_of_the_caller(spawner):
    """Who can start it again, if the reason for a failure passes."""
    for argv in (["cat"], ["no-such-program-anywhere"]):
        read_end, write_end = os.pipe()
        sink, sink_end = os.pipe()
        os.write(write_end, b"handed over")
        os.close(write_end)
        streams = {"stdin": messages.DESCRIPTOR, "stdout": messages.DESCRIPTOR, "descriptors": 2}
        try:
            finish(spawner.start(start_of(*argv, **streams), 7, [read_end, sink_end]))
        except StartFailure:
            assert argv != ["cat"]
        os.close(sink_end)
        os.close(read_end)
        assert read_all(sink) == (b"handed over" if argv == ["cat"] else b"")


def test_descriptors_stay_open_when_another_stream_cannot_be_opened(spawner):
    read_end, write_end = os.pipe()
    options = {"stdin": messages.DESCRIPTOR, "descriptors": 1, "stdout": messages.PATH, "paths": [b"", b"/none/x", b""]}
    assert failure_of(spawner.start, start_of("true", **options), 7, [read_end]) == (errno.ENOENT, "stdout")
    os.close(read_end)
    os.close(write_end)


def test_small_stdin_is_fed_at_once(run):
    assert run("cat", stdin=messages.DATA, data=b"x" * 4096)[1] == b"x" * 4096


def test_files_are_read_created_and_cut_off(run, tmp_path):
    (tmp_path / "in").write_bytes(b"input")
    (tmp_path / "out").write_bytes(b"something longer than that")
    paths = [os.fsencode(tmp_path / name) for name in ("in", "out", "new")]
    streams = {"stdin": messages.PATH, "stdout": messages.PATH, "stderr": messages.PATH}
    assert run("sh", "-c", "cat; echo err >&2", paths=paths, **streams) == (0, b"", b"")
    assert (tmp_path / "out").read_bytes() == b"input"
    assert (tmp_path / "new").read_bytes() == b"err\n"


def test_merged_streams_are_one(run):
    assert run("sh", "-c", "echo a; echo b >&2; echo c", stderr=messages.MERGED) == (0, b"a\nb\nc\n", b"")


def test_a_fifo_without_a_reader_does_not_stop_the_worker(spawner, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    request = start_of("true", stdout=messages.PATH, paths=[b"", os.fsencode(tmp_path / "fifo"), b""])
    assert failure_of(spawner.start, request, 7, []) == (errno.ENXIO, "stdout")


def test_settings_are_applied_in_the_new_process_only(run, tmp_path):
    own = os.umask(0o22)
    os.umask(own)
    file = tmp_path / "file"
    assert run("sh", "-c", f": >'{file}'; ulimit -n", settings=[b"umask=63", b"RLIMIT_NOFILE=33"])[:2] == (0, b"33\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.umask(own) == own


def test_a_forked_child_that_cannot_become_the_program_reports_why(spawner):
    for argv, settings, report in (
        (["no-such-program-anywhere"], [b"umask=63"], b"at program\nexec\nerror program 2\n"),
        (["true"], [b"user=no-such-user"], b"at program\nerror user 0\n"),
        (["true"], [b"group=no-such-group"], b"at program\nerror group 0\n"),
        (["true"], [b"user=%d" % 2**40, b"group=0"], b"at program\nerror user %d\n" % errno.ERANGE),
        (["true"], [b"niceness=none"], b"at program\nerror niceness %d\n" % errno.EINVAL),
        (["true"], [b"RLIMIT_NOTHING=1"], b"at program\nerror RLIMIT_NOTHING %d\n" % errno.EIO),
    ):
        spawned = spawner.start(start_of(*argv, settings=settings), 7, [])
        assert os.waitstatus_to_exitcode(os.waitpid(spawned.pid, 0)[1]) == 127
        assert os.read(spawned.report, 100) == report
        for fd in (spawned.report, spawned.stdout, spawned.stderr):
            os.close(fd)


@pytest.mark.parametrize("preparing", [[], [b"umask=63"]], ids=["posix_spawn", "fork"])
def test_signals_are_as_they_are_to_be_in_a_program(run, preparing):
    """SIGPIPE is ignored in every Python process; a signal that is blocked here is not to be blocked there."""
    status = run("cat", "/proc/self/status", settings=preparing)[1].decode()
    [blocked], [ignored] = (re.findall(rf"^{name}:\s*(\w+)$", status, re.MULTILINE) for name in ("SigBlk", "SigIgn"))
    assert int(blocked, 16) == 0
    assert not int(ignored, 16) & 1 << signal.SIGPIPE - 1


@pytest.mark.skipif(sys.platform != "linux", reason="counts through /proc")
def test_a_failed_start_leaves_no_descriptor(spawner, tmp_path):
    before = os.listdir("/proc/self/fd")
    for _ in range(50):
        for request in (start_of("none-such"), start_of("true", cwd=b"/none")):
            with pytest.raises(StartFailure):
                spawner.start(request, 7, [])
    assert os.listdir("/proc/self/fd") == before
