"""Signals keep their place among writes, and forks of the host hold no end of a program's pipes."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
import warnings

import pytest
from contract.support import sh

from aiocmdpool import CommandConfig, ProcessBackend, ProcessPool, ThreadBackend
from aiocmdpool.live.pipeline_run import run_pipeline

pytestmark = pytest.mark.slow

PROGRAM = """
import os, signal, sys
signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b'SIGNAL\\n'))
for _ in range(2):
    line = sys.stdin.readline()
    os.write(1, line.encode())
"""
TELLS = CommandConfig(sys.executable, ["-I", "-S", "-c", PROGRAM])
ROUNDS = 10  # without the mend, most of them show it

BACKENDS = {
    "process": ProcessBackend,
    "thread": ThreadBackend,
    "process_pool": lambda: ProcessPool(1),
}


@pytest.fixture(params=BACKENDS)
async def any_backend(request):
    async with BACKENDS[request.param]() as backend:
        yield backend


async def test_a_signal_arrives_before_what_is_written_after_it(any_backend):
    for _ in range(ROUNDS):
        async with any_backend.open(TELLS) as process:
            process.stdin.write(b"first\n")
            assert await process.stdout.read_line() == b"first\n"
            process.send_signal(signal.SIGUSR1)
            process.stdin.write(b"second\n")
            assert await process.stdout.read() == b"SIGNAL\nsecond\n"


async def test_so_it_does_where_asyncio_s_own_interface_is_used():
    async with ProcessPool(1) as pool:
        for _ in range(ROUNDS):
            process = await pool.create_subprocess_exec(*TELLS.argv, stdin=-1, stdout=-1)
            process.stdin.write(b"first\n")
            assert await process.stdout.readline() == b"first\n"
            process.send_signal(signal.SIGUSR1)
            process.stdin.write(b"second\n")
            assert await process.stdout.read() == b"SIGNAL\nsecond\n"
            await process.wait()


async def test_a_signal_after_the_end_hits_nobody(any_backend):
    async with any_backend.open(CommandConfig("true")) as process:
        assert await process.wait() == 0
        process.send_signal(signal.SIGTERM)
        process.kill()


def a_thread_starts_a_program() -> bool:
    frames = list(sys._current_frames().values())
    while frames:
        frame = frames.pop()
        if frame.f_code is subprocess.Popen._execute_child.__code__:
            return True
        if frame.f_back is not None:
            frames.append(frame.f_back)
    return False


@contextlib.contextmanager
def fork_that_lives_on():
    """A fork of this process that does nothing, for as long as the body takes.

    Not in the middle of a `Popen` of another thread, whose pipe for errors it would hold open (as CPython has it).
    """
    while a_thread_starts_a_program():
        time.sleep(0.001)
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of forks with threads
        pid = os.fork()
    if pid == 0:
        os.close(write_end)
        os.read(read_end, 1)
        os._exit(0)
    os.close(read_end)
    try:
        yield
    finally:
        os.close(write_end)
        os.waitpid(pid, 0)


async def test_the_end_of_the_input_is_seen_though_the_host_has_forked(any_backend):
    async with any_backend.open(CommandConfig("cat")) as process:
        process.stdin.write(b"text\n")
        await process.stdout.read_line()
        with fork_that_lives_on():
            process.stdin.close()
            async with asyncio.timeout(20):
                assert await process.stdout.read() == b""
                assert await process.wait() == 0


async def test_so_it_is_through_asyncio_s_own_interface():
    async with ProcessPool(1) as pool:
        process = await pool.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        process.stdin.write(b"text\n")
        await process.stdout.readline()
        with fork_that_lives_on():
            process.stdin.close()
            async with asyncio.timeout(20):
                assert await process.stdout.read() == b""
                assert await process.wait() == 0


async def test_large_input_ends_though_the_host_has_forked(any_backend, ready, release):
    script = f"echo up >'{ready.path}'; read go <'{release.path}'; wc -c"
    feeding = asyncio.ensure_future(any_backend.execute(sh(script, stdin=bytes(300_000))))
    await ready.wait()
    with fork_that_lives_on():
        release.send()
        async with asyncio.timeout(20):
            assert (await feeding).stdout.strip() == b"300000"


async def test_a_stage_that_waits_to_start_leaves_nothing_in_a_fork(ready, release):
    """Its end of the pipe is open while it waits for a thread."""
    async with ThreadBackend(1) as backend:
        first = asyncio.ensure_future(backend.execute(sh(f"echo up >'{ready.path}'; read go <'{release.path}'")))
        await ready.wait()
        pipeline = CommandConfig("echo", ["text"]) | sh(f"echo up >'{ready.path}'; cat")
        waiting = asyncio.ensure_future(run_pipeline(backend, pipeline))
        await ready.wait()  # the second stage runs: it has a thread of its own
        with fork_that_lives_on():
            release.send()
            async with asyncio.timeout(20):
                assert (await waiting).text() == "text\n"
        await first


async def test_what_a_fork_closes_is_nobody_else_s(any_backend):
    """The numbers stay taken in the fork: its copies of our objects may close them."""
    async with any_backend.open(CommandConfig("cat")) as process:
        fd = process.stdout.pipe.fd
        read_end, write_end = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            os.write(write_end, os.readlink(f"/proc/self/fd/{fd}").encode())
            os._exit(0)
        os.waitpid(pid, 0)
        assert os.read(read_end, 100) == b"/dev/null"
        os.close(read_end)
        os.close(write_end)
        process.stdin.write(b"still here\n")
        assert await process.stdout.read_line() == b"still here\n"
