"""Shared by the pool's tests: commands that hold still, and looks at workers."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import psutil

from aiocmdpool.backends.workers.process_pool import ProcessPool
from aiocmdpool.commands.command import CommandConfig

PATIENCE = 30.0  # seconds after which something that should have happened is taken for broken


def sh(script: str, *args: object, **options: Any) -> CommandConfig:
    return CommandConfig.shell(script, list(map(str, args)), **options)


def hold(ready: Any, release: Any, **options: Any) -> CommandConfig:
    """Says its pid and that of its worker to `ready`, waits for a line from `release`, and prints `held`."""
    return sh('echo $$ $PPID >"$1"; read x <"$2"; echo held', ready.path, release.path, **options)


def in_background(pool: ProcessPool, *commands: CommandConfig) -> "list[asyncio.Future[Any]]":
    """Run them; each future gives what became of one, error or not."""
    return [asyncio.ensure_future(outcome(pool.execute(command))) for command in commands]


async def outcome(running: Awaitable[Any]) -> BaseException | Any:
    """What an await gives, error or not; a cancellation of the test itself apart, it is the error."""
    try:
        return await running
    except (Exception, asyncio.CancelledError) as error:
        return error


async def pairs(ready: Any, count: int) -> list[tuple[int, int]]:
    """Pid and worker of so many commands that hold."""
    return [tuple(map(int, (await ready.wait()).split())) for _ in range(count)]  # type: ignore[misc]


async def until(true: Callable[[], object], what: str = "") -> None:
    """Turn the loop until something is so: for what nobody tells."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"still not so after {PATIENCE} s: {what or true}"
        await asyncio.sleep(0.002)


def children_of(pids: Iterable[int]) -> list[psutil.Process]:
    """What these processes have started, and what came to them."""
    found: list[psutil.Process] = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found += psutil.Process(pid).children(recursive=True)
    return found


def process_exists(pid: int) -> bool:
    """Alive or a zombie."""
    return psutil.pid_exists(pid)
