"""What all tests share: the matrix of loops, the leak guard, the backends, helper programs and a way to hear them."""

import asyncio
import contextlib
import inspect
import os
import select
import signal
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from contract.backends import BACKENDS, QUICK
from contract.guard import leak_guard, loop_guard, mark_session, task_guard
from contract.loops import loops_of, policy_params, warm_up
from contract.support import argv_of
from pytest_asyncio import plugin as asyncio_plugin

from aiocmdpool.commands.executor import CommandExecutor

__all__ = ["leak_guard", "loop_guard", "task_guard"]

ON_DESCRIPTORS = ("contract", "live", "loops", "process_pool", "system", "worker")
"""Rooms whose code touches a loop's descriptors, in which uvloop is another loop than asyncio's own."""

HEARING = 20.0  # seconds after which a program that says nothing is taken for broken

mark_session()
warm_up()
# A shell's `&` and nohup start what they start with these ignored, and it would hand that on to the programs of the
# tests. A handler is not handed on (execve(2)); this process does not hear the signals, as before.
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "one_loop(*names): run an async test on these loops only ('asyncio' when none is named)"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What touches a loop's descriptors is tried on asyncio and uvloop by the quick suite; all else, by the slow one.

    `twin` marks what a backend that is no business of the quick suite repeats on a loop other than asyncio's.
    """
    for item in items:
        on_descriptors = item.path.parent.name in ON_DESCRIPTORS
        if "asyncio-debug" in item.name or ("uvloop" in item.name and not on_descriptors):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("other_backend") and ("asyncio-debug" in item.name or "uvloop" in item.name):
            item.add_marker(pytest.mark.twin)


if hasattr(asyncio_plugin, "PytestAsyncioSpecs"):

    def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
        return loops_of(item)

else:

    def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
        if inspect.iscoroutinefunction(metafunc.function):
            policies, names = policy_params(metafunc)
            metafunc.fixturenames.append("event_loop_policy")
            metafunc.parametrize("event_loop_policy", policies, ids=names, indirect=True)

    @pytest.fixture
    def event_loop_policy(request: pytest.FixtureRequest) -> Any:
        return getattr(request, "param", None) or asyncio.DefaultEventLoopPolicy()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep a failure from ending the whole run: a report goes to another process, as UTF-8, and names may be others."""
    report = yield
    report.sections = [(title, _in_utf8(text)) for title, text in report.sections]
    if report.longrepr is not None and (text := str(report.longrepr)) != _in_utf8(text):
        report.longrepr = _in_utf8(text)
    return report


def _in_utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


OTHER = [pytest.mark.slow, pytest.mark.other_backend]


@pytest.fixture(params=[pytest.param(name, marks=[] if name in QUICK else OTHER) for name in BACKENDS])
def backend_name(request: pytest.FixtureRequest) -> str:
    """Each backend by name, for tests that run it in a process of their own."""
    name: str = request.param
    return name


@pytest.fixture
async def backend(backend_name: str) -> AsyncIterator[CommandExecutor]:
    """Each backend, entered."""
    async with BACKENDS[backend_name]() as backend:
        yield backend


@pytest.fixture(scope="session")
def program() -> Callable[..., list[str]]:
    """Call it with the name of a helper program and its arguments for the argv that starts it fast."""
    return argv_of


class NamedPipe:
    """A pipe with a path, by which a helper program and a test hear each other beside the program's own streams."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)
        # Open for both: neither side ever waits for the other to open its end, and there is no end of file.
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._heard = b""

    def close(self) -> None:
        os.close(self._fd)

    def send(self, line: bytes = b"go") -> None:
        """Say a line to the program."""
        os.write(self._fd, line + b"\n")

    async def wait(self) -> bytes:
        """The next line from the program, without its end."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(HEARING):
            while b"\n" not in self._heard:
                readable = loop.create_future()
                loop.add_reader(self._fd, lambda future=readable: future.done() or future.set_result(None))
                try:
                    await readable
                finally:
                    loop.remove_reader(self._fd)
                self._heard += os.read(self._fd, 65536)
        return self._next_line()

    def wait_blocking(self) -> bytes:
        """As `wait`, without a loop."""
        while b"\n" not in self._heard:
            if not select.select([self._fd], [], [], HEARING)[0]:
                raise TimeoutError(f"the program said nothing for {HEARING} s")
            self._heard += os.read(self._fd, 65536)
        return self._next_line()

    def heard(self) -> list[bytes]:
        """All whole lines that the program has said by now."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._fd, 65536):
                self._heard += data
        *lines, self._heard = self._heard.split(b"\n")
        return lines

    async def pids(self, count: int) -> list[int]:
        """The process ids that `count` lines hold."""
        return [int(await self.wait()) for _ in range(count)]

    def _next_line(self) -> bytes:
        line, _, self._heard = self._heard.partition(b"\n")
        return line


def _named_pipe(path: Path) -> Iterator[NamedPipe]:
    pipe = NamedPipe(path)
    try:
        yield pipe
    finally:
        pipe.close()


@pytest.fixture
def ready(tmp_path: Path) -> Iterator[NamedPipe]:
    """Where a helper program says that it has come so far: give it `ready.path`, then `await ready.wait()`."""
    yield from _named_pipe(tmp_path / "ready")


@pytest.fixture
def release(tmp_path: Path) -> Iterator[NamedPipe]:
    """Where a helper program waits to go on: give it `release.path`, later `release.send()`."""
    yield from _named_pipe(tmp_path / "release")
