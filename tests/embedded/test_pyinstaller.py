"""A real application that is frozen by PyInstaller is its own worker, and never more than that."""

import subprocess
from pathlib import Path

import pytest
from contract.support import TESTS, adopting, host_environment

import aiocmdpool

from .support import python_with, watch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RUN_FOR = 120.0  # seconds; one file is unpacked first
COMMANDS = ["plain", "50", "detached", "0", "0"]
REFUSED = ["plain", "IoError True", "detached", "0", "IoError True"]


@pytest.fixture(scope="module", params=["--onedir", "--onefile"])
def frozen(request, tmp_path_factory) -> Path:
    """The executable of the application."""
    folder = tmp_path_factory.mktemp("frozen")
    python = python_with("pyinstaller", "PyInstaller", folder / "environment")
    source = TESTS / "embedded" / "application.py"
    options = ["--noconfirm", "--log-level", "ERROR", "--paths", str(Path(aiocmdpool.__path__[0]).parent)]
    places = ["--distpath", str(folder), "--workpath", str(folder / "build"), "--specpath", str(folder)]
    argv = [python, "-m", "PyInstaller", request.param, *options, *places, str(source)]
    subprocess.run(argv, env=host_environment(), check=True, timeout=600)
    return folder / "application" if request.param == "--onefile" else folder / "application" / "application"


def lines_of(frozen: Path, *args: str) -> list[str]:
    with (
        adopting(),
        subprocess.Popen(
            [str(frozen), *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as host,
    ):
        watch(host, RUN_FOR, lambda: host.poll() is not None)
        return host.stdout.read().splitlines()


def test_one_line_makes_everything_work(frozen):
    told = [f"{mode} {line}" for mode in ("process", "process_pool") for line in COMMANDS]
    assert lines_of(frozen) == [*told, "single single", "facade facade"]


def test_without_it_nothing_is_started_again(frozen):
    told = [f"process {line}" for line in REFUSED] + ["process_pool WorkerLost True"] * len(COMMANDS)
    assert lines_of(frozen, "--without-freeze-support") == [*told, "single single", "facade facade"]
