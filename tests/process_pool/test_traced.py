"""A dead process that somebody traces is hidden from its parent: nobody waits for it, and it is reaped later."""

import asyncio
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from contract.backends import BACKENDS
from contract.support import argv_of, is_dead, is_gone

from aiocmdpool.backends.workers import leftovers
from aiocmdpool.commands.errors import ChildError, WorkerLost
from aiocmdpool.system import exit_watch

from .support import PATIENCE, hold, in_background, outcome, pairs, sh, until

pytestmark = [pytest.mark.slow, pytest.mark.one_loop("asyncio", "uvloop")]


@pytest.fixture
def trace(tmp_path) -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Call it with a pid for a process that traces that one by now, or skip the test where none may."""
    tracers: list[subprocess.Popen[bytes]] = []

    def start(pid: int, *how: str) -> "subprocess.Popen[bytes]":
        path = str(tmp_path / f"traces-{pid}")
        os.mkfifo(path)
        tracers.append(subprocess.Popen(argv_of("trace", path, pid, *how)))
        with open(path) as ready:
            if ready.readline() != "traced\n":
                pytest.skip("nobody may trace here")
        return tracers[-1]

    yield start
    for tracer in tracers:
        tracer.kill()
        tracer.wait()


async def let_go(tracer: "subprocess.Popen[bytes]", *pids: int) -> None:
    """End the tracer; what it held is reaped then."""
    await until(lambda: all(map(is_dead, pids)))
    assert not any(map(is_gone, pids))
    tracer.kill()
    tracer.wait()
    await until(lambda: all(map(is_gone, pids)) and not is_reaping())


async def test_a_dead_worker_that_is_traced_does_not_block_the_loop(new_pool, ready, release, trace):
    pool = new_pool(1)
    [running] = in_background(pool, hold(ready, release))
    [(pid, worker)] = await pairs(ready, 1)
    tracer = trace(worker)
    os.kill(worker, signal.SIGKILL)
    error = await asyncio.wait_for(running, PATIENCE)
    assert isinstance(error, WorkerLost)
    assert is_dead(pid)
    assert (await pool.execute(sh("echo fine"))).stdout == b"fine\n"
    await let_go(tracer, worker)


async def test_a_pool_whose_workers_are_traced_is_closed(new_pool, trace):
    pool = new_pool(2)
    await pool.start()
    await until(lambda: all(worker.ready for worker in pool._workers))
    one, other = pool.statistics().pids
    tracers = [trace(one), trace(other)]
    await asyncio.wait_for(pool.aclose(), PATIENCE)
    assert not is_gone(one)
    tracers[0].kill()
    await until(lambda: is_gone(one))
    await let_go(tracers[1], other)


async def test_what_outlives_its_loop_is_not_waited_for_longer_than_it_takes_to_die(trace, monkeypatch):
    """As `aclose` does on a pool whose loop is closed, and the garbage collector with one that was forgotten."""
    monkeypatch.setattr(leftovers, "LEAVE_TIMEOUT", 0.05)
    monkeypatch.setattr(leftovers, "KILL_TIMEOUT", 0.2)
    child = subprocess.Popen(["sleep", "60"])
    child.returncode = 0  # it is not reaped by this object
    ours, theirs = socket.socketpair()
    theirs.close()
    tracer = trace(child.pid)
    handles = leftovers.WorkerHandles(child.pid, "a-cookie-that-nobody-has", "", [], ours)
    await asyncio.wait_for(asyncio.to_thread(handles.end), PATIENCE)
    await let_go(tracer, child.pid)


def is_reaping() -> bool:
    """Whether the thread is there that reaps what could not be reaped."""
    return any(thread.name == "aiocmdpool-reaper" for thread in threading.enumerate())


traced_backends = pytest.mark.parametrize("name", ["process", "thread"])


async def start_traced(name: str, trace: Any, ready: Any, release: Any, *how: str) -> tuple[Any, int, Any]:
    """A backend and a command in it that waits, traced: its future, its pid, its tracer."""
    backend = BACKENDS[name]()
    running = asyncio.ensure_future(outcome(backend.execute(hold(ready, release))))
    [(pid, _)] = await pairs(ready, 1)
    return running, pid, trace(pid, *how)


@traced_backends
async def test_a_command_that_is_traced_when_it_exits_ends_with_an_error_that_says_so(name, ready, release, trace):
    running, pid, tracer = await start_traced(name, trace, ready, release)
    release.send()
    error = await asyncio.wait_for(running, PATIENCE)
    assert isinstance(error, ChildError)
    for word in (str(pid), str(tracer.pid), "traces"):
        assert word in str(error)
    await let_go(tracer, pid)


@traced_backends
async def test_a_tracer_that_lets_go_in_time_changes_nothing(name, ready, release, trace, monkeypatch):
    monkeypatch.setattr(exit_watch, "TRACER_TIMEOUT", PATIENCE)  # on a busy machine it is not that quick
    running, _, tracer = await start_traced(name, trace, ready, release, "let go")
    release.send()
    result = await asyncio.wait_for(running, PATIENCE)
    assert (result.returncode, result.stdout) == (0, b"held\n")
    tracer.wait(PATIENCE)
