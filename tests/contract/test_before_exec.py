"""A result is the program's own: what ends before the `exec` is an error, whatever its exit status."""

import errno
import shutil
import signal
import sys

import pytest

import aiocmdpool.standalone
from aiocmdpool import CommandTimeout, IoError, ProcessPool, Stdio
from aiocmdpool.backends.child.process import ProcessBackend
from aiocmdpool.backends.child.thread import ThreadBackend
from aiocmdpool.backends.workers import process as process_module
from aiocmdpool.system import launch as launch_module

from .support import helper, outcome, sh, with_patience

pytestmark = pytest.mark.slow

PYTHON = sys.executable
CHILDREN = {"process": ProcessBackend, "thread": ThreadBackend}
no_pythons = pytest.mark.parametrize("body", ["exit 0", "exit 3", "echo no Python >&2; exit 0", "kill -9 $$"])


@pytest.fixture
def interpreter(tmp_path, monkeypatch):
    """Call it with a shell script, which is what `sys.executable` does from then on when it is to run the launcher.

    When it is tried, it is a Python all the same. Returns its path.
    """

    def be(body: str) -> str:
        path = tmp_path / "embedding_host"
        path.write_text(f'#!/bin/sh\n[ "$3" = -c ] && exec {sys.executable} "$@"\n{body}\n')
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))
        return str(path)

    return be


@pytest.mark.one_loop("asyncio", "uvloop")
@pytest.mark.parametrize("make", CHILDREN.values(), ids=CHILDREN)
@pytest.mark.parametrize("check", [False, True])
@no_pythons
async def test_what_is_no_python_is_no_success(make, interpreter, body, check):
    path = interpreter(body)
    command = sh("echo did run", niceness=1, check=check)
    async with make() as backend:
        error = await outcome(backend.execute(command))
    assert isinstance(error, IoError)
    assert (error.errno, error.command, error.result) == (errno.EIO, command, None)
    assert path in str(error)
    assert "has not run" in str(error)
    assert ("no Python" in str(error).partition("last words")[2]) == ("echo" in body)


@pytest.mark.one_loop
@pytest.mark.parametrize("make", CHILDREN.values(), ids=CHILDREN)
async def test_a_python_that_is_not_there_any_more_is_named(make, interpreter):
    path = interpreter("")
    with open(path, "w") as script:
        script.write(f'#!/bin/sh\nrm "$0"; exec {PYTHON} "$@"\n')
    async with make() as backend:
        error = await outcome(backend.execute(sh("echo did run", niceness=1)))
    assert isinstance(error, IoError)
    assert (error.errno, error.filename) == (errno.ENOENT, path)


@pytest.mark.one_loop
@pytest.mark.parametrize("make", CHILDREN.values(), ids=CHILDREN)
async def test_a_directory_as_stdin_that_no_python_takes_is_an_error(make, tmp_path):
    async with make() as backend:
        error = await outcome(backend.execute(sh("echo did run", stdin=tmp_path, niceness=1)))
    assert isinstance(error, IoError)
    assert "is a directory" in str(error)


@pytest.mark.one_loop
@pytest.mark.parametrize("make", CHILDREN.values(), ids=CHILDREN)
async def test_who_is_ended_before_it_can_say_a_word_is_timed_out(make, interpreter, ready):
    interpreter(f"echo >{ready.path}; exec sleep 60")
    async with make() as backend:

        async def attempt(seconds: float) -> tuple[BaseException, list[bytes]]:
            error = await outcome(backend.execute(sh("echo did run", niceness=1, timeout=seconds)))
            return error, ready.heard()

        error, _ = await with_patience(attempt, lambda seen: bool(seen[1]))
    assert isinstance(error, CommandTimeout)
    assert error.result.returncode == -signal.SIGTERM


@pytest.mark.one_loop
@pytest.mark.parametrize("make", CHILDREN.values(), ids=CHILDREN)
async def test_who_is_signalled_before_it_can_say_a_word_has_that_status(make, interpreter, ready):
    interpreter(f"echo >{ready.path}; exec sleep 60")
    async with make() as backend, backend.open(sh("echo did run", niceness=1, stdin=Stdio.NULL)) as process:
        await ready.wait()
        process.terminate()
        result = await process.result()
    assert result.returncode == -signal.SIGTERM


@pytest.mark.one_loop("asyncio", "uvloop")
@pytest.mark.parametrize("make", CHILDREN.values(), ids=CHILDREN)
async def test_a_launcher_that_dies_before_its_exec_is_an_error(make, monkeypatch, tmp_path):
    """Killed by anybody, for want of memory: nothing of the program has run, so there is no status of it."""
    folder = tmp_path / "standalone"
    shutil.copytree(aiocmdpool.standalone.__path__[0], folder, ignore=shutil.ignore_patterns("__pycache__"))
    launcher = folder / "kernel" / "launcher.py"
    before, name, after = launcher.read_text().partition("        prepare(settings, report)\n")
    assert name
    launcher.write_text(f"{before}        os.kill(os.getpid(), signal.SIGKILL)\n{after}")
    monkeypatch.setattr(launch_module, "LAUNCHER", str(launcher))
    async with make() as backend:
        command = helper("touch_file", tmp_path / "ran", niceness=1)
        error = await outcome(backend.execute(command))
        assert isinstance(error, IoError)
        assert (error.errno, error.command, error.result) == (errno.EIO, command, None)
        assert "has not run" in str(error)
    assert not (tmp_path / "ran").exists()


@pytest.mark.one_loop
async def test_a_child_of_a_worker_that_dies_before_its_exec_is_an_error(monkeypatch, tmp_path):
    folder = tmp_path / "standalone"
    shutil.copytree(aiocmdpool.standalone.__path__[0], folder, ignore=shutil.ignore_patterns("__pycache__"))
    launcher = folder / "kernel" / "launcher.py"
    launcher.write_text(launcher.read_text().replace("        prepare(settings, report)\n", "        os._exit(0)\n"))
    monkeypatch.setattr(process_module, "FOLDER", str(folder))
    command = helper("touch_file", tmp_path / "ran", niceness=1)
    async with ProcessPool(1) as pool:
        error = await outcome(pool.execute(command))
    assert isinstance(error, IoError)
    assert (error.errno, error.command, error.result) == (errno.EIO, command, None)
    assert "has not run" in str(error)
    assert not (tmp_path / "ran").exists()
