"""pytest-asyncio: a pool as a fixture of the session, beside tests that have a loop each."""

import subprocess
import sys

import pytest
from contract.support import HOST_DEADLINE, host_environment

SUITE = """
import pytest, pytest_asyncio
from aiocmdpool import CommandConfig, CommandPool, ExecuteError, ExecutionConfig, ExecutionMode

@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def pool():
    async with CommandPool(ExecutionConfig(mode=ExecutionMode.{mode})) as pool:
        yield pool

@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("number", range(3))
async def test_on_the_loop_of_the_session(pool, number):
    assert (await pool.execute(CommandConfig("echo", ["fine"]))).stdout == b"fine\\n"

@pytest.mark.asyncio(loop_scope="function")
@pytest.mark.parametrize("number", range(2))
async def test_on_a_loop_of_its_own(pool, number):
    with pytest.raises(ExecuteError, match="another event loop"):
        await pool.execute(CommandConfig("echo", ["lost"]))

@pytest.mark.asyncio(loop_scope="session")
async def test_and_it_goes_on(pool):
    assert (await pool.execute(CommandConfig("echo", ["fine"]))).stdout == b"fine\\n"
    assert pool.health().state.name == "HEALTHY", pool.health()
"""


@pytest.mark.parametrize("mode", ["PROCESS_POOL", "PROCESS", "THREAD"])
def test_a_pool_of_the_session_says_which_loop_it_belongs_to(tmp_path, mode):
    (tmp_path / "test_suite.py").write_text(SUITE.format(mode=mode))
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = strict\n")
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(tmp_path)]
    suite = subprocess.run(
        argv, cwd=tmp_path, env=host_environment(), capture_output=True, text=True, timeout=HOST_DEADLINE, check=False
    )
    assert suite.returncode == 0, suite.stdout + suite.stderr
    assert "6 passed" in suite.stdout
