"""The contenders that live on a loop: each as a coroutine function that runs one command and checks its output.

Every one of them is written the way its own documentation shows, with what is the same for all commands made once.
"""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import anyio

from aiocmdpool import (
    CommandConfig,
    CommandExecutor,
    CommandPool,
    ExecutionConfig,
    ExecutionMode,
    ProcessBackend,
    ProcessPool,
)
from benchmarks.contenders import Contender, Kind
from benchmarks.workloads import Workload

RunOne = Callable[[], Awaitable[None]]


class WrongAnswer(Exception):
    """A contender did not do the work that it is measured by."""


@contextlib.asynccontextmanager
async def one_command(contender: Contender, workload: Workload, in_flight: int) -> AsyncIterator[RunOne]:
    """What runs one command the way of the contender, with room for so many at once; cleaned up in the end."""
    match contender.kind:
        case Kind.PROCESS_POOL:
            async with ProcessPool(niceness=contender.niceness) as pool:
                yield _with_executor(pool, workload)
        case Kind.COMMAND_POOL:
            config = ExecutionConfig(
                mode=ExecutionMode.PROCESS_POOL, concurrency_limit=in_flight, niceness=contender.niceness
            )
            async with CommandPool(config) as command_pool:
                yield _with_executor(command_pool, workload)
        case Kind.PROCESS_BACKEND:
            async with ProcessBackend() as backend:
                yield _with_executor(backend, workload)
        case Kind.SEMAPHORE:
            yield _with_semaphore(workload, in_flight)
        case Kind.ANYIO:
            yield _with_anyio(workload, in_flight)
        case Kind.THREADS:
            with ThreadPoolExecutor(in_flight) as threads:
                yield _with_threads(workload, threads)
        case Kind.EXTERNAL:
            raise ValueError(f"{contender.name} does not run on a loop")


def _check(workload: Workload, returncode: int | None, stdout: bytes | None, stderr: bytes | None) -> None:
    if returncode != 0 or stdout is None or len(stdout) != workload.output or stderr != b"":
        size = None if stdout is None else len(stdout)
        raise WrongAnswer(f"{workload.name}: exit status {returncode}, {size} bytes of output, stderr {stderr!r}")


def _with_executor(executor: CommandExecutor, workload: Workload) -> RunOne:
    command = CommandConfig(workload.program, workload.args)

    async def run_one() -> None:
        result = await executor.execute(command)
        _check(workload, result.returncode, result.stdout, result.stderr)

    return run_one


def _with_semaphore(workload: Workload, in_flight: int) -> RunOne:
    semaphore = asyncio.Semaphore(in_flight)

    async def run_one() -> None:
        async with semaphore:
            process = await asyncio.create_subprocess_exec(
                workload.program,
                *workload.args,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            stdout, stderr = await process.communicate()
        _check(workload, process.returncode, stdout, stderr)

    return run_one


def _with_anyio(workload: Workload, in_flight: int) -> RunOne:
    limiter = anyio.CapacityLimiter(in_flight)

    async def run_one() -> None:
        async with limiter:
            done = await anyio.run_process(workload.argv, stdin=subprocess.DEVNULL, check=False)
        _check(workload, done.returncode, done.stdout, done.stderr)

    return run_one


def _with_threads(workload: Workload, threads: ThreadPoolExecutor) -> RunOne:
    loop = asyncio.get_running_loop()

    def run() -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(workload.argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)

    async def run_one() -> None:
        done = await loop.run_in_executor(threads, run)
        _check(workload, done.returncode, done.stdout, done.stderr)

    return run_one
