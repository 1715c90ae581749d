"""Hosts that come to their limits: `python -m contract.limit_hosts SCENARIO BACKEND LOOP`.

What limits the host limits its worker as well. Each tells its test what it saw by printing Python literals.
"""

import asyncio
import contextlib
import os
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from aiocmdpool.backends.process_pool import ProcessPoolBackend
from aiocmdpool.backends.workers import process as process_module
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.standalone.kernel import transient
from aiocmdpool.system import identity

from .backends import BACKENDS
from .loops import LOOPS
from .support import outcome, patient_workers, sh

SPARE = 9  # descriptors: more than any start needs
identity._limits = list  # a host that comes to its limits has not changed them
LONG = 20.0  # seconds for which starts are repeated, instead of one
SOON = 0.05  # seconds for which a limit stays


def everybody() -> list[int]:
    """This process and its workers."""
    return [os.getpid(), *(child.pid for child in psutil.Process().children())]


@contextlib.contextmanager
def limited(kind: int, limits: dict[int, int]) -> Iterator[None]:
    """Lower the soft limit of these processes, the own one last."""
    before = {pid: resource.prlimit(pid, kind) for pid in limits}
    for pid in sorted(limits, key=lambda pid: pid == os.getpid()):
        resource.prlimit(pid, kind, (limits[pid], before[pid][1]))
    try:
        yield
    finally:
        for pid, both in before.items():
            resource.prlimit(pid, kind, both)


def descriptor_limit(pid: int, spare: int) -> int:
    """A limit at which so many descriptors are left."""
    taken = set(map(int, os.listdir(f"/proc/{pid}/fd")))
    free = (number for number in range(10_000) if number not in taken)
    return next(number for index, number in enumerate(free) if index == spare)


async def at_the_limit(backend: Any, command: CommandConfig, kind: int, limits: dict[int, int]) -> Any:
    """Start a command at the limit, which is lifted soon."""
    with limited(kind, limits):
        running = asyncio.ensure_future(outcome(backend.execute(command)))
        await asyncio.sleep(SOON)
    return await running


async def run_and_count(backend: Any, log: Path, kind: int, limits: dict[int, int], **options: Any) -> None:
    log.unlink(missing_ok=True)
    end = await at_the_limit(backend, sh('echo ran >>"$1"', str(log), **options), kind, limits)
    print((getattr(end, "returncode", repr(end)), log.read_text().count("ran")))


@contextlib.contextmanager
def patient(directory: str) -> Iterator[None]:
    """Starts are repeated for longer: on a busy machine this process may be held up while a limit is lowered."""
    before = transient.RETRY_FOR, process_module.FOLDER
    transient.RETRY_FOR, process_module.FOLDER = LONG, str(patient_workers(Path(directory), LONG))
    try:
        yield
    finally:
        transient.RETRY_FOR, process_module.FOLDER = before


async def fail_at_the_limit(backend: Any, kind: int, limits: dict[int, int], word: str) -> None:
    with limited(kind, limits):
        error = await outcome(backend.execute(CommandConfig("true")))
    print((type(error).__name__, getattr(error, "errno", None), word in str(error)))
    print((await backend.execute(CommandConfig("true"))).returncode)


async def descriptors(make: Any) -> None:
    with tempfile.TemporaryDirectory() as directory, patient(directory):
        async with make() as backend:
            await backend.execute(CommandConfig("true"))
            for spare in range(SPARE):
                limits = {pid: descriptor_limit(pid, spare) for pid in everybody()}
                await run_and_count(backend, Path(directory, "log"), resource.RLIMIT_NOFILE, limits)
    async with make() as backend:
        await backend.execute(CommandConfig("true"))
        limits = {pid: descriptor_limit(pid, 0) for pid in everybody()}
        await fail_at_the_limit(backend, resource.RLIMIT_NOFILE, limits, "descriptors")


async def processes(make: Any) -> None:
    """All processes of the user count, not only those of this one."""
    with tempfile.TemporaryDirectory() as directory, patient(directory):
        async with make() as backend:
            await backend.execute(CommandConfig("true"))
            limits = dict.fromkeys(everybody(), 1)
            for options in ({}, {"niceness": 1}):
                await run_and_count(backend, Path(directory, "log"), resource.RLIMIT_NPROC, limits, **options)
    async with make() as backend:
        await backend.execute(CommandConfig("true"))
        await fail_at_the_limit(backend, resource.RLIMIT_NPROC, dict.fromkeys(everybody(), 1), "processes")


MAKE = {**BACKENDS, "process_pool": lambda: ProcessPoolBackend(1)}


def main() -> None:
    name, backend, loop = sys.argv[1:]
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run({"descriptors": descriptors, "processes": processes}[name](MAKE[backend]))


if __name__ == "__main__":
    main()
