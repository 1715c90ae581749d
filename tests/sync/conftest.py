"""Fixtures of the facade's tests."""

import subprocess
import sys

import pytest
from contract.support import host_environment

from aiocmdpool import sync

from .support import Threads


@pytest.fixture(autouse=True)
def own_background(leak_guard):
    """Each test has a background thread of its own, and `shutdown` leaves nothing of it: the leak guard looks after."""
    yield
    sync.shutdown()


@pytest.fixture
def threads(own_background):
    """Call it with a function, and arguments, for the future of a thread that calls it; all are joined at the end."""
    started = Threads()
    yield started.start
    sync.shutdown()  # whatever they wait for
    started.join()


@pytest.fixture
def host():
    """Call it with a module and a scenario of `hosts`, and arguments, for a Python process; warnings are errors."""
    started = []

    def start(module, scenario, *args):
        # Python 3.12 warns of any fork beside threads, whatever is done after it.
        argv = [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning", "-m", "sync.hosts"]
        process = subprocess.Popen(
            [*argv, module, scenario, *map(str, args)],
            env=host_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()
