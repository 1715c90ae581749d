"""Pools that nobody closed: one complaint, and nothing is left; pools that were inherited by a fork."""

import ast
import asyncio
import gc
import subprocess
import sys

import pytest
from contract.loops import LOOPS
from contract.support import HOST_DEADLINE, host_environment, is_gone

from aiocmdpool.backends.workers.process_pool import ProcessPool
from aiocmdpool.commands.command import CommandConfig

from .support import until
from .test_hosts import assert_all_die

pytestmark = pytest.mark.slow

loops = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


def run(scenario: str, loop: str, *args: object) -> subprocess.CompletedProcess[str]:
    argv = [
        sys.executable,
        "-W",
        "always::ResourceWarning",
        "-m",
        "process_pool.ending_hosts",
        scenario,
        loop,
        *map(str, args),
    ]
    return subprocess.run(
        argv, check=False, env=host_environment(), text=True, timeout=HOST_DEADLINE, capture_output=True
    )


def see(scenario: str, loop: str) -> list:
    """What a host prints, which must end well."""
    host = run(scenario, loop)
    assert host.returncode == 0, host.stderr
    # The loop that the child has inherited, and cannot close without harm to its parent, may be complained of.
    assert "Traceback" not in host.stderr, host.stderr
    assert "ProcessPool" not in host.stderr, host.stderr
    return [ast.literal_eval(line) for line in host.stdout.splitlines()]


# -- at the end of the process ----


@loops
@pytest.mark.parametrize(("scenario", "status"), [("returns", 0), ("exits", 3), ("raises", 1), ("forgets", 0)])
def test_a_pool_that_is_not_closed_is_complained_of_once_and_its_workers_leave(ready, loop, scenario, status):
    host = run(scenario, loop, ready.path)
    pids = [int(ready.wait_blocking()) for _ in range(2)]
    assert host.returncode == status
    assert host.stderr.count("Warning") == 1, host.stderr
    assert "ResourceWarning: a ProcessPool with 2 running workers was not closed" in host.stderr
    assert "aclose()" in host.stderr
    assert host.stderr.count("Traceback") == (scenario == "raises"), host.stderr
    assert_all_die(pids)


@loops
def test_an_exit_at_once_leaves_no_time_to_complain_and_no_workers(ready, loop):
    host = run("exits_at_once", loop, ready.path)
    assert (host.returncode, host.stderr) == (4, "")
    assert_all_die([int(ready.wait_blocking()) for _ in range(2)])


@loops
def test_of_a_pool_that_is_closed_nobody_complains(ready, loop):
    host = run("closes", loop, ready.path)
    assert (host.returncode, host.stderr) == (0, "")
    assert all(is_gone(int(ready.wait_blocking())) for _ in range(2))


# -- before: the leak guard looks for descriptors, threads and processes ----


def used_pool(runner: asyncio.Runner, workers: int = 2) -> ProcessPool:
    pool = ProcessPool(workers)

    async def use() -> None:
        await pool.execute(CommandConfig("true"))
        await until(lambda: all(worker.ready for worker in pool._workers))

    runner.run(use())
    return pool


def forget(*held: list) -> None:
    for items in held:
        items.clear()
    gc.collect()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_pool_that_is_forgotten_after_its_loop_was_closed_leaves_nothing(loop):
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        pools = [used_pool(runner)]
    pids = pools[0].statistics().pids
    with pytest.warns(ResourceWarning, match="ProcessPool with 2 running workers was not closed") as caught:
        forget(pools)
    assert len(caught) == 1
    assert_all_die(pids)


@loops
def test_a_pool_that_is_forgotten_with_commands_in_flight_ends_them(ready, loop):
    async def start(pool: ProcessPool) -> None:
        running = asyncio.ensure_future(pool.execute(CommandConfig("sh", ["-c", f"echo $$ >{ready.path}; sleep 60"])))
        pids.append(int(await ready.wait()))
        assert not running.done()

    pids: list[int] = []
    runner = asyncio.Runner(loop_factory=LOOPS[loop])
    pools = [used_pool(runner)]
    pids.extend(pools[0].statistics().pids)
    # Not the end of `asyncio.run`, which would cancel the command.
    runner.get_loop().run_until_complete(start(pools[0]))
    tasks = list(asyncio.all_tasks(runner.get_loop()))
    tasks[0]._log_destroy_pending = False  # that complaint is another's
    runner.get_loop().close()
    with pytest.warns(ResourceWarning, match="was not closed"):
        forget(pools, tasks)
    assert_all_die(pids)


@loops
def test_a_pool_that_never_started_a_worker_is_forgotten_in_silence(loop):
    """Warnings are errors in here."""
    pool = ProcessPool(2)
    del pool
    gc.collect()


@loops
def test_a_pool_that_was_closed_is_forgotten_in_silence(loop):
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        pool = used_pool(runner)
        runner.run(pool.aclose())
    del pool
    gc.collect()


# -- forks ----


@loops
def test_a_forked_child_can_neither_use_nor_close_nor_harm_the_pool_of_its_parent(loop):
    errors, status, works, same_workers = see("forks_and_its_child_ends_like_any_program", loop)
    assert len(errors) == 4
    for error in errors:
        assert error.startswith("ExecuteError: this process pool belongs to"), error
    assert (status, works, same_workers) == (5, True, True)


def test_a_forked_child_that_goes_on_with_the_loop_cannot_close_the_pool_either():
    [error], works = see("forks_and_its_child_closes_with_the_same_loop", "asyncio")
    assert error.startswith("ExecuteError: this process pool belongs to the parent of this forked process")
    assert works
