"""CPython's own suite, wherever the interpreter ships it."""

import subprocess
import sys

import pytest
from contract.support import host_environment

from .conformance import LOOPS, load

pytestmark = pytest.mark.slow

DEADLINE = 120.0  # seconds


@pytest.mark.skipif(load() is None, reason="this interpreter comes without its tests")
@pytest.mark.parametrize("loop", LOOPS)
def test_cpythons_own_tests_pass(loop):
    argv = [sys.executable, "-m", "asyncio_api.conformance", "--loop", loop]
    run = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=DEADLINE, env=host_environment())
    assert run.returncode == 0, run.stdout + run.stderr
    assert " 0 wrong" in run.stdout
