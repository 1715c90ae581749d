"""A loop whose time is made up, and executors that run nothing: shared by the tests of the policies."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

from pool.support import result_of

from aiocmdpool import CommandConfig, CommandResult

Test = Callable[..., Coroutine[Any, Any, None]]


class _Leap(selectors.DefaultSelector):
    """Instead of waiting for a time, makes it that time."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if not events and timeout is None:
            raise AssertionError("everybody waits, and nothing will ever happen")
        if not events and timeout is not None and timeout > 0:
            self.now += timeout
        return events


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """The loop of asyncio, on which an hour passes at once when nothing else is to be done."""

    def __init__(self) -> None:
        self.leap = _Leap()
        super().__init__(self.leap)

    def time(self) -> float:
        self.leap.now += 1e-9  # as with a real clock, looking at it takes time: a timer is never early by a rounding
        return self.leap.now


def in_fake_time(test: Test) -> Callable[..., None]:
    """Runs an async test on a `FakeTimeLoop`; it leaves no task."""

    async def watched(*args: Any, **options: Any) -> None:
        await test(*args, **options)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    @functools.wraps(test)
    def run(*args: Any, **options: Any) -> None:
        with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
            runner.run(watched(*args, **options))

    return run


def now() -> float:
    """Seconds on the clock of the loop."""
    return asyncio.get_running_loop().time()


class Scripted:
    """Ends each command with the next outcome of a list: a returncode, an error, or a function of the command.

    The last one is repeated. `starts` says when each began, to a hundredth.
    """

    def __init__(self, *outcomes: Any, takes: float = 0.0) -> None:
        self._outcomes = list(outcomes) or [0]
        self._takes = takes
        self._began = now()
        self.starts: list[float] = []
        self.commands: list[CommandConfig] = []
        self.running = self.most = 0

    async def execute(self, command: CommandConfig) -> CommandResult:
        self.starts.append(round(now() - self._began, 2))
        self.commands.append(command)
        outcome = self._outcomes.pop(0) if len(self._outcomes) > 1 else self._outcomes[0]
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self._takes)
        finally:
            self.running -= 1
        try:
            if callable(outcome):
                outcome = outcome(command)
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome if not isinstance(outcome, int) else result_of(command, returncode=outcome)
        finally:
            del outcome  # else the error and its traceback would keep each other


async def turns(count: int) -> None:
    """Let the loop turn so often."""
    for _ in range(count):
        await asyncio.sleep(0)


async def cancelled(task: "asyncio.Task[Any]") -> asyncio.CancelledError:
    """Cancel a task and wait for its end, which must be that."""
    task.cancel()
    return await cancellation_of(task)


async def cancellation_of(task: "asyncio.Task[Any]") -> asyncio.CancelledError:
    """What a task that was cancelled has raised."""
    try:
        outcome = await task
    except asyncio.CancelledError as error:
        return error
    raise AssertionError(f"not cancelled, but {outcome!r}")
