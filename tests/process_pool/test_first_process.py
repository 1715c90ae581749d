"""A host that is process 1 of a container: orphans come to it, and no zombie of ours stays."""

import ast
import shutil
import subprocess
import sys

import pytest
from contract.support import HOST_DEADLINE, host_environment

pytestmark = pytest.mark.slow

CONTAINER = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]

loops = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


def see(scenario: str, loop: str, *args: str) -> list:
    """What a host prints."""
    argv = [*CONTAINER, sys.executable, "-W", "error", "-m", "process_pool.ending_hosts", scenario, loop, *args]
    options = {"env": host_environment(), "text": True, "timeout": HOST_DEADLINE, "capture_output": True}
    host = subprocess.run(argv, check=False, **options)
    assert (host.returncode, host.stderr) == (0, ""), host.stderr
    return [ast.literal_eval(line) for line in host.stdout.splitlines()]


@pytest.fixture(autouse=True)
def container() -> None:
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare here")
    attempt = subprocess.run([*CONTAINER, "true"], check=False, capture_output=True, text=True)
    if attempt.returncode != 0:
        pytest.skip(f"no process namespace can be made here: {attempt.stderr.strip()}")


@loops
def test_a_pool_works_and_a_killed_worker_leaves_nothing(ready, loop):
    first, status, lost, again, new_worker, left = see("is_the_first_process", loop, ready.path)
    assert (first, status, again) == (1, 7, 7)
    assert lost == ("WorkerLost", True)
    assert (new_worker, left) == ([True], [])


@loops
def test_what_it_started_itself_leaves_nothing(ready, loop):
    seen = see("is_the_first_process_and_starts_them_itself", loop, ready.path)
    assert seen == [[]] * 4
