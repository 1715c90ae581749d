"""A child that is forked inside a coroutine leaves by an exception: what it unwinds is its parent's, and unharmed."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys

import pytest
from contract.loops import LOOPS
from contract.support import HOST_DEADLINE, host_environment

pytestmark = pytest.mark.slow

HOST = """
import asyncio, os, sys
from contextlib import aclosing
from contract.loops import LOOPS
from aiocmdpool import (
    CommandConfig, CommandPool, CommandPoolSeg, ExecutionConfig, ExecutionMode, ProcessPool, create_backend, run
)
loop, kind, mode, *names = sys.argv[1:]

async def fork_when_it_runs():
    pool_has_begun = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_reader(0, pool_has_begun.set_result, None)
    await pool_has_begun
    asyncio.get_running_loop().remove_reader(0)
    sys.stdin.readline()
    child = os.fork()
    if not child:
        raise SystemExit(7)
    return child

async def reap(child, task):
    _, status = os.waitpid(child, 0)
    print("child", os.waitstatus_to_exitcode(status), flush=True)
    print("parent", (await task).text().split(), flush=True)

COMMAND = CommandConfig("sh", ["-c", 'echo $$ > "$0"; echo on > "$1"; read line < "$2"; echo $line', *names])

async def main():
    if kind == "run":
        task = asyncio.ensure_future(run(COMMAND.program, *COMMAND.args))
        await reap(await fork_when_it_runs(), task)
    elif kind == "ProcessPool":
        async with ProcessPool(1) as pool:
            task = asyncio.ensure_future(pool.execute(COMMAND))
            await reap(await fork_when_it_runs(), task)
    elif kind == "map":
        async with CommandPool(ExecutionConfig(mode=ExecutionMode[mode])) as pool:
            async with aclosing(pool.map([CommandConfig("true"), COMMAND])) as results:
                await anext(results)
                await reap(await fork_when_it_runs(), anext(results))
    elif kind == "open":
        async with CommandPool(ExecutionConfig(mode=ExecutionMode[mode])) as pool:
            async with pool.open(COMMAND, streams=["stdin"]) as process:
                await reap(await fork_when_it_runs(), process.result())
    elif kind == "backend":
        async with create_backend(ExecutionConfig(mode=ExecutionMode[mode])) as backend:
            async with backend.open(COMMAND, streams=["stdin"]) as process:
                await reap(await fork_when_it_runs(), process.result())
    else:
        async with globals()[kind](ExecutionConfig(mode=ExecutionMode[mode])) as pool:
            task = asyncio.ensure_future(pool.execute(COMMAND))
            await reap(await fork_when_it_runs(), task)

with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
    runner.run(main())
"""
KINDS = [
    *itertools.product(("CommandPool", "CommandPoolSeg", "map", "open", "backend"), ("PROCESS", "PROCESS_POOL")),
    ("ProcessPool", ""),
    ("run", ""),
]


@pytest.mark.parametrize("loop", list(LOOPS))
@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_a_child_that_unwinds_ends_and_harms_nothing(tmp_path, loop, kind, mode):
    on, gate = tmp_path / "on", tmp_path / "gate"
    os.mkfifo(on)
    os.mkfifo(gate)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    argv = [sys.executable, "-c", HOST, loop, kind, mode, *map(str, (tmp_path / "pid", on, gate))]
    host = subprocess.Popen(argv, env=host_environment(), text=True, start_new_session=True, **pipes)
    try:
        on.read_text()  # the command runs
        host.stdin.write("fork\n")
        host.stdin.flush()
        assert host.stdout.readline() == "child 7\n"
        gate.write_text("unharmed\n")
        stdout, stderr = host.communicate(timeout=HOST_DEADLINE)
        assert stdout == "parent ['unharmed']\n", stderr
        assert "ExecuteError" not in stderr  # a coroutine that is cancelled gets its cancellation
    finally:
        with host, contextlib.suppress(ProcessLookupError):  # all have ended
            os.killpg(host.pid, signal.SIGKILL)
