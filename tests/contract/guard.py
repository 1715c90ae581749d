"""The leak guard: a test that leaves a task, a thread, a descriptor or a process behind fails.

Processes are found in two ways: as descendants, and, for those whose parents are gone, by a cookie in their
environment that names this test session.
"""

import asyncio
import contextlib
import gc
import inspect
import os
import signal
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from aiocmdpool.backends.workers.lending import end_unused

COOKIE_NAME = "AIOCMDPOOL_TEST"
COOKIE = uuid.uuid4().hex
PATIENCE = 10.0  # seconds for what is legitimately finishing; on a busy machine a guardian may still be starting

_PROC = Path("/proc")
_FD_DIRECTORY = "/proc/self/fd" if _PROC.is_dir() else "/dev/fd"


def mark_session() -> None:
    """Put the cookie of this session into the environment, beside that of an outer session."""
    os.environ[COOKIE_NAME] = f"{os.environ.get(COOKIE_NAME, '')}:{COOKIE}"


class Possessions(NamedTuple):
    """What this process holds at one moment; each item as it is shown to people."""

    descriptors: frozenset[str]
    threads: frozenset[str]
    processes: frozenset[str]


def possessions() -> Possessions:
    return Possessions(_descriptors(), _threads(), frozenset(map(_describe, _processes())))


def left_behind(before: Possessions) -> dict[str, list[str]]:
    """What is there now and was not there before, by kind."""
    pairs = zip(Possessions._fields, before, possessions(), strict=True)
    return {kind: sorted(new - old) for kind, old, new in pairs if new - old}


@pytest.fixture(autouse=True)
def leak_guard() -> Iterator[None]:
    """Fail a test that leaves a descriptor, a thread or a process; kill such a process."""
    before = possessions()
    yield
    end_unused()  # the worker of `run` and the like would stay for the next loop
    leaks = left_behind(before)
    deadline = time.monotonic() + PATIENCE
    while leaks and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
        leaks = left_behind(before)
    if leaks:
        _kill_leaked(before)
        pytest.fail("the test left behind:\n" + _listing(leaks), pytrace=False)


@pytest.fixture(autouse=True)
def loop_guard(leak_guard: None, request: pytest.FixtureRequest) -> None:
    """Watch the loop too, where the test has one."""
    if inspect.iscoroutinefunction(request.function):
        request.getfixturevalue("task_guard")


@pytest.fixture
async def task_guard() -> AsyncIterator[None]:
    """Fail a test that leaves an asyncio task, or an error that only the loop's exception handler saw."""
    unseen: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unseen.append(repr(context)))
    yield
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        _, tasks = await asyncio.wait(tasks, timeout=PATIENCE)
    leaks = {"tasks": sorted(map(repr, tasks)), "errors that nobody saw": unseen}
    if any(leaks.values()):
        pytest.fail("the test left behind:\n" + _listing(leaks), pytrace=False)


def _listing(leaks: dict[str, list[str]]) -> str:
    return "\n".join(f"  {kind}: {item}" for kind, items in leaks.items() for item in items)


def _descriptors() -> frozenset[str]:
    found = []
    for name in os.listdir(_FD_DIRECTORY):
        # The descriptor of the listing itself is gone by now.
        with contextlib.suppress(OSError):
            found.append(f"{name} -> {os.readlink(f'{_FD_DIRECTORY}/{name}')}")
    return frozenset(found)


def _threads() -> frozenset[str]:
    return frozenset(f"{thread.name} ({thread.ident})" for thread in threading.enumerate())


def _processes() -> list[psutil.Process]:
    """Descendants, zombies among them, and whoever carries the cookie of this session."""
    if not _PROC.is_dir():
        return psutil.Process().children(recursive=True)
    found = []
    for pid in {*_descendants(os.getpid()), *_cookie_bearers()}:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(pid))
    return found


def _descendants(pid: int) -> Iterator[int]:
    """Those of a process, by the lists the kernel keeps; psutil would look at every process of the machine."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:  # gone meanwhile
        return
    for thread in threads:
        for child in map(int, _read(f"/proc/{pid}/task/{thread}/children").split()):
            yield child
            yield from _descendants(child)


def _cookie_bearers() -> Iterator[int]:
    cookie, me = COOKIE.encode(), str(os.getpid())
    for entry in os.listdir(_PROC):
        if entry.isdecimal() and entry != me and cookie in _read(f"/proc/{entry}/environ"):
            yield int(entry)


def _read(path: str) -> bytes:
    """What a file of /proc says; nothing if it is gone meanwhile, or somebody else's and not to be looked at."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(fd, 65536)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _describe(process: psutil.Process) -> str:
    details: dict[str, Any] = {"status": "gone", "cmdline": []}
    with contextlib.suppress(psutil.Error):
        details["created"] = process.create_time()
        details["status"] = "zombie" if process.status() == psutil.STATUS_ZOMBIE else "alive"
        details["cmdline"] = [f"({process.name()})"]  # all that there is of a zombie
        details["cmdline"] = process.cmdline()
    return f"{process.pid} (started {details.get('created')}) {details['status']} {' '.join(details['cmdline'])}"


def _kill_leaked(before: Possessions) -> None:
    """Leave nothing on the machine, whatever the tests found."""
    known = {int(line.split()[0]) for line in before.processes}
    leaked = [process for process in _processes() if process.pid not in known]
    for process in leaked:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(leaked, timeout=PATIENCE)
