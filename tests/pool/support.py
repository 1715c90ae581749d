"""Executors that run nothing, and ways to look at a pool: shared by its tests."""

import asyncio
import gc
from collections.abc import Awaitable, Iterable
from typing import Any

from aiocmdpool import CommandConfig, CommandPool, CommandResult, TaskHandle, TaskStatus

PATIENCE = 20.0  # seconds after which something that should have happened is taken for broken

SOON = 5.0  # seconds within which what depends on nothing but the loop must be over; less than a pool's own patience


def named(name: object, **options: Any) -> CommandConfig:
    """A command for the executors below, known by its program's name."""
    return CommandConfig(str(name), **options)


def result_of(command: CommandConfig, **fields: Any) -> CommandResult:
    """What a program that says nothing and exits with 0 would give."""
    given = {"returncode": 0, "stdout": b"", "stderr": b"", "pid": 1, "duration": 0.0, **fields}
    return CommandResult(command, **given)


class HeldExecutor:
    """Runs nothing: a command is held until the test releases it by name."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []
        self.most = 0  # that were held at once
        self._held: dict[str, asyncio.Future[BaseException | None]] = {}
        self._news = asyncio.Event()

    async def execute(self, command: CommandConfig) -> CommandResult:
        name = command.program
        verdict = self._held[name] = asyncio.get_running_loop().create_future()
        self.started.append(name)
        self.most = max(self.most, len(self._held))
        self._news.set()
        try:
            error = await verdict
        finally:
            self.ended.append(name)
            del self._held[name]
        if error is not None:
            raise error
        return result_of(command)

    @property
    def held(self) -> list[str]:
        return list(self._held)

    @property
    def waiting(self) -> list[str]:
        """Those of the held whose end the test has not decided yet."""
        return [name for name, verdict in self._held.items() if not verdict.done()]

    async def holds(self, *names: object) -> None:
        """Wait until these are held."""
        async with asyncio.timeout(PATIENCE):
            while not self._held.keys() >= set(map(str, names)):
                self._news.clear()
                await self._news.wait()

    def release(self, *names: object) -> None:
        """Let these end well."""
        for name in names:
            self._held[str(name)].set_result(None)

    def fail(self, name: object, error: BaseException) -> None:
        """Let this one raise an error."""
        self._held[str(name)].set_result(error)


class StubbornExecutor(HeldExecutor):
    """Takes its time to end what is cancelled, as a program with a grace period does: until `let_go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = asyncio.Event()

    async def execute(self, command: CommandConfig) -> CommandResult:
        try:
            return await super().execute(command)
        except asyncio.CancelledError as cancelled:
            while not self.let_go.is_set():
                try:
                    await self.let_go.wait()
                except asyncio.CancelledError:
                    continue
            raise cancelled


class InstantExecutor:
    """Ends each command in the next turn of the loop."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.running = self.most = 0

    async def execute(self, command: CommandConfig) -> CommandResult:
        self.started.append(command.program)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
        finally:
            self.running -= 1
        return result_of(command)


async def quiet() -> None:
    """Let everything happen that can happen without the test: what has not happened then waits for something."""
    for _ in range(30):
        await asyncio.sleep(0)


async def settled(handles: Iterable[TaskHandle]) -> None:
    """Wait until all of these are settled, whatever their outcome."""
    async with asyncio.timeout(PATIENCE):
        for handle in handles:
            await handle.wait_settled()


async def soon(running: Awaitable[Any]) -> Any:
    """What an await gives, if it does not hang."""
    async with asyncio.timeout(SOON):
        return await running


def living(kind: type) -> int:
    """How many objects of exactly this type the process keeps."""
    gc.collect()
    return sum(type(thing) is kind for thing in gc.get_objects())


def statuses(handles: Iterable[TaskHandle]) -> list[TaskStatus]:
    return [handle.status for handle in handles]


def drained_queue(pool: CommandPool) -> list[str]:
    """The names of what waits, in the order in which it would run; the queue is empty then."""
    names = []
    while (command := pool.pop_task()) is not None:
        names.append(command.program)
    return names


def assert_counts_add_up(pool: CommandPool, handles: Iterable[TaskHandle]) -> None:
    """That the statistics say what the handles say."""
    now = pool.statistics()
    seen = statuses(handles)
    counted = {
        TaskStatus.PENDING: now.queued,
        TaskStatus.RUNNING: now.running,
        TaskStatus.COMPLETED: now.completed,
        TaskStatus.FAILED: now.failed,
        TaskStatus.CANCELLED: now.cancelled,
    }
    assert counted == {status: seen.count(status) for status in TaskStatus}
    assert now.submitted == len(seen) == sum(counted.values())
    assert 0 <= now.timed_out <= now.failed
