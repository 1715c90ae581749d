"""Environments in which a package is installed that this one need not have, and applications that are bounded."""

import importlib.util
import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

INSTALL_FOR = 300.0  # seconds
COPIES = 12  # processes of an application and all it has started: its own, workers, a guardian, commands


def python_with(package: str, module: str, folder: Path) -> str:
    """Return the path of a Python that has a package: this one, or one in a new environment; skip if there is none."""
    if importlib.util.find_spec(module) is not None:
        return sys.executable
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "anyio", "uvloop", package]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(pip, env=environment, capture_output=True, text=True, timeout=INSTALL_FOR, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{package} could not be installed within {INSTALL_FOR:g} s")
    if done.returncode != 0:
        pytest.skip(f"{package} is not installed, and cannot be: {done.stderr.strip()[-300:]}")
    return python


def watch(process: "subprocess.Popen[str]", seconds: float, until: Callable[[], bool]) -> int:
    """Wait until something is so, and return the largest number of processes that there were; kill all of too many."""
    most, deadline = 0, time.monotonic() + seconds
    while not until():
        try:
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            family = []
        most = max(most, len(family))
        if most > COPIES or time.monotonic() > deadline:
            for each in family:
                each.kill()
            pytest.fail(f"{most} processes, or not done after {seconds:g} s")
        time.sleep(0.01)
    return most
