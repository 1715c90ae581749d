"""`no_new_privs`: applied before the program runs, and a failure to apply it fails the command."""

import errno
import shutil
import sys
from pathlib import Path

import pytest

import aiocmdpool.standalone
from aiocmdpool.backends.workers import process as program_module
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import IoError
from aiocmdpool.system import launch as launch_module

from .backends import BACKENDS
from .support import helper, outcome, sh

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="only Linux has no_new_privs")]

STATUS = CommandConfig("cat", ["/proc/self/status"])


def flag_in(status: str) -> int:
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("NoNewPrivs"))


async def flag_of(backend, command: CommandConfig) -> int:
    return flag_in((await backend.execute(command)).text())


async def test_it_holds_for_the_program_and_not_for_others(backend):
    mine = flag_in(Path("/proc/self/status").read_text())
    assert await flag_of(backend, STATUS) == mine
    assert await flag_of(backend, STATUS.with_options(no_new_privs=True)) == 1
    assert await flag_of(backend, STATUS) == mine


@pytest.mark.one_loop("asyncio", "uvloop")
async def test_it_holds_for_what_the_program_starts_and_beside_other_settings(backend):
    command = sh("umask; cat /proc/self/status; exit 3", no_new_privs=True, umask=0o27, niceness=1)
    result = await backend.execute(command)
    assert result.returncode == 3
    assert result.text().startswith("0027\n")
    assert flag_in(result.text()) == 1


@pytest.mark.one_loop("asyncio", "uvloop")
async def test_where_it_cannot_be_applied_the_program_does_not_run(backend_name, monkeypatch, tmp_path):
    """A kernel that does not know it: the number that is asked for means nothing to this one."""
    folder = tmp_path / "standalone"
    shutil.copytree(aiocmdpool.standalone.__path__[0], folder, ignore=shutil.ignore_patterns("__pycache__"))
    launcher = folder / "kernel" / "launcher.py"
    source = launcher.read_text()
    assert "PR_SET_NO_NEW_PRIVS = 38\n" in source
    launcher.write_text(source.replace("PR_SET_NO_NEW_PRIVS = 38\n", "PR_SET_NO_NEW_PRIVS = 9999\n"))
    monkeypatch.setattr(launch_module, "LAUNCHER", str(launcher))
    monkeypatch.setattr(program_module, "FOLDER", str(folder))
    async with BACKENDS[backend_name]() as backend:
        command = helper("touch_file", tmp_path / "ran", no_new_privs=True)
        error = await outcome(backend.execute(command))
        assert isinstance(error, IoError)
        assert (error.errno, error.command, error.result) == (errno.EINVAL, command, None)
        assert "no_new_privs could not be applied" in str(error)
        assert not (tmp_path / "ran").exists()
        assert (await backend.execute(command.with_options(no_new_privs=False))).ok
    assert (tmp_path / "ran").exists()
