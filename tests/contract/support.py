"""Shared by the contract tests: helper programs as commands, proofs of death, hosts in processes of their own."""

import ast
import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil

import aiocmdpool.standalone
from aiocmdpool.commands.command import CommandConfig

T = TypeVar("T")

TESTS = Path(__file__).resolve().parent.parent
PROGRAMS = TESTS / "programs"
FOREVER = 60.0  # seconds that helper programs sleep; whoever waits for one of them to end by itself fails the test
PATIENCE = (0.15, 0.6, 2.5, 10.0)  # seconds, one after the other, in which a helper program gets ready
DYING = 10.0  # seconds in which somebody else's orphan must be gone after its KILL; long, for a busy machine
HOST_DEADLINE = 40.0  # seconds


def argv_of(name: str, *args: object) -> list[str]:
    """The argv that starts a helper program fast."""
    return [sys.executable, "-I", "-S", str(PROGRAMS / f"{name}.py"), *map(str, args)]


def helper(name: str, *args: object, **options: Any) -> CommandConfig:
    """A helper program as a command."""
    program, *rest = argv_of(name, *args)
    return CommandConfig(program, rest, **options)


def sh(script: str, *args: str, **options: Any) -> CommandConfig:
    return CommandConfig.shell(script, args, **options)


def niceness_after(increment: int) -> int:
    """Return the niceness of a child of this process that adds `increment`: the kernel stops at 19 (setpriority(2))."""
    return min(19, os.getpriority(os.PRIO_PROCESS, 0) + increment)


def is_gone(pid: int) -> bool:
    """Whether the process is dead and reaped."""
    return not psutil.pid_exists(pid)


def is_dead(pid: int) -> bool:
    """Whether the process is dead, reaped or not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    return True


async def assert_dead(*pids: int) -> None:
    """That these processes are dead. Others reap orphans, so a zombie counts as dead, and time is given."""
    deadline = time.monotonic() + DYING
    while living := [pid for pid in pids if not is_dead(pid)]:
        assert time.monotonic() < deadline, f"still alive: {living}"
        await asyncio.sleep(0.005)


@contextlib.contextmanager
def adopting() -> Iterator[None]:
    """Reap what the body leaves behind if this process is PID 1: orphans become its children then, and nobody else's.

    Only for what is not to be reaped by a backend: the workers of a host that is gone, and daemons that were let go.
    """
    before = {child.pid for child in psutil.Process().children()}
    try:
        yield
    finally:
        deadline = time.monotonic() + DYING
        while os.getpid() == 1 and time.monotonic() < deadline:  # a dying one hands over its own children
            orphans = [child for child in psutil.Process().children() if child.pid not in before]
            if not orphans:
                break
            psutil.wait_procs(orphans, timeout=DYING)


@contextlib.contextmanager
def returns_before_programs_end() -> Iterator[None]:
    """The body must not have waited for a sleeping helper program to end by itself."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < FOREVER / 2


async def outcome(running: "Coroutine[Any, Any, Any] | asyncio.Future[Any]") -> BaseException | Any:
    """What an await gives, error or not."""
    [value] = await asyncio.gather(running, return_exceptions=True)
    return value


async def with_patience(attempt: Callable[[float], Awaitable[T]], got_ready: Callable[[T], bool]) -> T:
    """Attempt something with a deadline that is short, but not too short for the program to get ready first.

    How long that takes depends on how busy the machine is: an attempt that came too soon is made again with more.
    """
    for seconds in PATIENCE:
        value = await attempt(seconds)
        if got_ready(value):
            return value
    raise AssertionError(f"the program did not get ready within {PATIENCE[-1]} s")


def patient_workers(directory: Path, seconds: float) -> Path:
    """A copy of what workers run, which repeats starts that fail for so long: on a busy machine a second is little."""
    folder = directory / "standalone"
    shutil.copytree(aiocmdpool.standalone.__path__[0], folder, ignore=shutil.ignore_patterns("__pycache__"))
    source = (folder / "kernel" / "transient.py").read_text()
    before, line, after = source.partition("RETRY_FOR = 1.0")
    assert line
    (folder / "kernel" / "transient.py").write_text(f"{before}RETRY_FOR = {seconds}{after}")
    return folder


def pattern(count: int) -> bytes:
    """What `write_n_bytes.py` writes."""
    return (bytes(range(251)) * (count // 251 + 1))[:count]


def host_argv(scenario: str, backend: str, loop: str, *args: object) -> list[str]:
    """Runs one scenario of `hosts.py` in a Python process of its own, where any warning is an error."""
    return [sys.executable, "-W", "error", "-m", "contract.hosts", scenario, backend, loop, *map(str, args)]


def host_environment() -> dict[str, str]:
    package = Path(aiocmdpool.__path__[0]).parent
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), str(TESTS)]), "PYTHONDONTWRITEBYTECODE": "1"}


def run_host(scenario: str, backend: str, loop: str, *args: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a host to its end, which must be a clean one: status 0 and no word on stderr."""
    argv = host_argv(scenario, backend, loop, *args)
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": host_environment(), **options}
    with adopting():
        host = subprocess.run(argv, check=False, text=True, timeout=HOST_DEADLINE, **options)
    assert (host.returncode, host.stderr or "") == (0, ""), host.stderr
    return host


def literals_of(*argv: str) -> list[Any]:
    """What a host says, a Python literal in each line; it must end well and without a word on stderr."""
    with adopting():
        host = subprocess.run(
            argv, check=False, env=host_environment(), text=True, timeout=HOST_DEADLINE, capture_output=True
        )
    assert (host.returncode, host.stderr) == (0, ""), host.stderr
    return [ast.literal_eval(line) for line in host.stdout.splitlines()]
