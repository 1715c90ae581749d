"""Which Python runs workers and launchers: one that is set, or `sys.executable` where that is a Python; no other."""

import asyncio
import errno
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
from contract.privileges import needs_capability
from contract.support import HOST_DEADLINE, adopting, host_environment, is_gone, outcome, sh

import aiocmdpool
from aiocmdpool import (
    CommandConfig,
    ConfigError,
    ExecutionConfig,
    ExecutionMode,
    IoError,
    ProcessBackend,
    ProcessPool,
    ThreadBackend,
    WorkerLost,
    create_backend,
)
from aiocmdpool.standalone.kernel.launcher import NESTED
from aiocmdpool.system import interpreter, probe

pytestmark = pytest.mark.slow

PREPARED = sh("echo ran", niceness=1)  # needs a launcher in a child of this process
MAKERS = {
    "process": ProcessBackend,
    "thread": ThreadBackend,
    "process_pool": lambda **options: ProcessPool(1, **options),
}
makers = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@pytest.fixture(autouse=True)
def nothing_found(monkeypatch):
    """What other tests have found is not known."""
    monkeypatch.setattr(interpreter, "_found", {})
    monkeypatch.delenv(interpreter.SETTING, raising=False)


@pytest.fixture
def script(tmp_path):
    """Call it with a shell script for the path of a program that notes each of its starts in the file `started`."""

    def write(body: str) -> str:
        path = tmp_path / "application"
        path.write_text(f'#!/bin/sh\necho $$ >>"{tmp_path}/started"\n{body}\n')
        path.chmod(0o755)
        return str(path)

    return write


def starts(tmp_path: Path) -> list[int]:
    started = tmp_path / "started"
    return [int(line) for line in started.read_text().split()] if started.exists() else []


def test_the_python_of_this_process_needs_no_trying():
    assert interpreter.known() == interpreter.Interpreter(sys.executable)


@pytest.mark.parametrize("body", ["exit 0", "exit 1", 'echo "$@"', "echo 3.11", "kill -9 $$"])
def test_what_is_no_python_is_tried_once_and_then_known(script, tmp_path, monkeypatch, body):
    path = script(body)
    monkeypatch.setattr(sys, "executable", path)
    assert interpreter.known() is None
    for _ in range(3):
        with pytest.raises(interpreter.NoPython, match=rf"{path}.*set AIOCMDPOOL_PYTHON"):
            interpreter.find()
    assert isinstance(interpreter.known(), interpreter.NoPython)
    assert len(starts(tmp_path)) == 1


def test_an_application_that_goes_on_is_ended_with_all_it_has_started(script, tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "PROBE_FOR", 0.5)
    monkeypatch.setattr(
        sys, "executable", script(f"setsid sh -c 'echo $$ >>\"{tmp_path}/started\"; sleep 60' & sleep 60")
    )
    with pytest.raises(interpreter.NoPython):
        interpreter.find()
    assert all(is_gone(pid) for pid in starts(tmp_path)[:1])


def test_a_python_that_is_too_old_is_none(script):
    old = script("""[ "$3" = -c ] && echo "$5" | rev | sed 's/$/ 3 9/'""")
    with pytest.raises(interpreter.NoPython, match=r"is Python 3\.9"):
        interpreter.find(old)


def test_what_another_python_shows_counts(script, monkeypatch):
    path = script(f'exec {sys.executable} "$@"')
    monkeypatch.setattr(sys, "executable", path)
    assert interpreter.find() == interpreter.Interpreter(path)


@makers
@pytest.mark.one_loop("asyncio", "uvloop")
async def test_a_frozen_application_is_not_started_at_all(make, script, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", script("exit 0"))
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    async with make() as backend:
        error = await outcome(backend.execute(PREPARED))
    assert isinstance(error, IoError | WorkerLost)
    assert "aiocmdpool.freeze_support()" in str(error)
    assert starts(tmp_path) == []


@makers
@pytest.mark.one_loop
async def test_what_was_started_as_a_python_and_is_none_starts_nothing(make, script, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", script("exit 0"))
    monkeypatch.setenv(NESTED, "1")
    async with make() as backend:
        error = await outcome(backend.execute(PREPARED))
    assert isinstance(error, IoError | WorkerLost)
    assert "was itself started by aiocmdpool" in str(error)
    assert starts(tmp_path) == []


@makers
@pytest.mark.one_loop
@pytest.mark.parametrize("by", ["argument", "environment"])
async def test_a_python_that_is_set_is_the_one_that_is_started(make, by, script, tmp_path, monkeypatch):
    path = script(f'exec {sys.executable} "$@"')
    monkeypatch.setattr(sys, "executable", "/bin/false")
    if by == "environment":
        monkeypatch.setenv(interpreter.SETTING, path)
    async with make(**({"python": Path(path)} if by == "argument" else {})) as backend:
        assert (await backend.execute(PREPARED)).stdout == b"ran\n"
    assert len(starts(tmp_path)) == 2  # tried, and used


@pytest.mark.one_loop
@pytest.mark.parametrize("mode", ExecutionMode)
async def test_a_configuration_hands_it_on(mode):
    backend = create_backend(ExecutionConfig(mode=mode, python="/bin/false"))
    async with backend:
        error = await outcome(backend.execute(PREPARED))
    assert isinstance(error, IoError | WorkerLost)
    assert "python='/bin/false' is no Python" in str(error)


@makers
@pytest.mark.one_loop
async def test_a_python_that_is_not_there_is_named_and_asked_for_again(make, tmp_path):
    path = tmp_path / "python"
    async with make(python=path) as backend:
        error = await outcome(backend.execute(PREPARED))
        assert isinstance(error, IoError | WorkerLost)
        assert f"{path}: No such file or directory" in str(error)
        path.symlink_to(sys.executable)
        assert (await backend.execute(PREPARED)).stdout == b"ran\n"


def test_an_empty_setting_is_refused():
    for make in (ExecutionConfig, *MAKERS.values()):
        with pytest.raises(ConfigError, match="python: empty"):
            make(python="")


@makers
@pytest.mark.one_loop("asyncio", "uvloop")
async def test_no_command_sees_how_its_worker_was_started(make):
    async with make() as backend:
        for command in (CommandConfig("env"), CommandConfig("env", niceness=1), CommandConfig("env", detach=True)):
            assert NESTED.encode() not in (await backend.execute(command)).stdout


@pytest.mark.parametrize("make", [MAKERS["process"], MAKERS["process_pool"]], ids=["process", "process_pool"])
@pytest.mark.one_loop("asyncio", "uvloop")
async def test_the_loop_goes_on_while_a_python_is_tried(make, script, ready, release):
    path = script(f'echo >{ready.path}; read go <{release.path}; exec {sys.executable} "$@"')
    async with make(python=path) as backend:
        running = asyncio.ensure_future(backend.execute(PREPARED))
        await ready.wait()  # it is being tried, and this loop runs
        release.send()
        await ready.wait()  # it is a worker, or a launcher
        release.send()
        assert (await running).stdout == b"ran\n"


@pytest.mark.one_loop("asyncio", "uvloop")
async def test_a_pool_can_be_closed_while_a_python_is_tried(script, ready, release):
    pool = ProcessPool(1, python=script(f"echo >{ready.path}; read go <{release.path}"))
    running = asyncio.ensure_future(outcome(pool.execute(PREPARED)))
    await ready.wait()
    await pool.aclose()
    assert "closed before it started" in str(await running)
    release.send()
    [thread] = [each for each in threading.enumerate() if each.name == "aiocmdpool-python"]
    await asyncio.to_thread(thread.join)


def test_a_package_in_a_zip_file_works(tmp_path):
    archive, root = tmp_path / "application.zip", Path(aiocmdpool.__path__[0])
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in root.rglob("*.py"):
            file.write(path, path.relative_to(root.parent))
    code = (
        "import asyncio, aiocmdpool; from aiocmdpool import *\nassert 'application.zip' in aiocmdpool.__file__\n"
        "command = CommandConfig('sh', ['-c', 'umask'], umask=0o27)\n"
        "async def main():\n    async with ProcessBackend() as children:\n"
        "        print((await execute(command)).text() + (await children.execute(command)).text())\n"
        "asyncio.run(main())"
    )
    environment = {**host_environment(), "PYTHONPATH": str(archive)}
    with adopting():
        host = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=HOST_DEADLINE,
        )
    assert (host.stdout, host.stderr) == ("0027\n0027\n\n", "")


def test_a_fork_can_ask_though_another_thread_is_asking(monkeypatch):
    with interpreter._lock:
        pid = os.fork()
        if pid == 0:
            free = interpreter._lock.acquire(blocking=False)
            os._exit(0 if free else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_an_application_that_writes_without_end_is_ended_soon(script, tmp_path, monkeypatch):
    """Its output is not kept: in the time that it has it would fill the memory."""
    monkeypatch.setattr(probe, "PROBE_FOR", 3600.0)
    path = script("exec cat /dev/zero")
    with pytest.raises(interpreter.NoPython, match="does not do what a Python does"):
        interpreter.find(path)
    assert all(is_gone(pid) for pid in starts(tmp_path))


async def test_a_python_that_cannot_be_tried_for_want_of_processes_says_what_to_raise(monkeypatch):
    def refuse(python: str | None) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(interpreter, "find", refuse)
    async with ProcessPool(1) as pool:
        error = await outcome(pool.execute(sh("true")))
    assert isinstance(error, WorkerLost)
    assert "ulimit -u" in str(error)


@needs_capability("CAP_SETUID", "CAP_DAC_OVERRIDE")
def test_a_user_who_may_not_read_the_package_is_told_so(tmp_path):
    """Not that there is no such file: the host was root when it read them."""
    folder = tmp_path / "closed" / "worker"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o700)
    os.seteuid(54321)
    try:
        with pytest.raises(interpreter.NoPython, match=r"user 54321, may not read .*closed.*: permission denied"):
            interpreter.Interpreter(sys.executable).argv(str(folder))
    finally:
        os.seteuid(0)
    with pytest.raises(interpreter.NoPython, match="not on disk"):
        interpreter.Interpreter(sys.executable).argv(str(tmp_path / "none"))
