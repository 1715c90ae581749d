"""Executors, hooks and callers that do whatever they must not, at random: for `test_misbehaviour.py`."""

import asyncio
import contextlib
import random
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from aiocmdpool import CommandConfig, CommandPool, CommandPoolSeg, CommandResult, ExecuteError, TaskHandle

from .support import named, result_of

Pool = CommandPool | CommandPoolSeg
GRACE = 0.02  # seconds; of the commands


class Abort(BaseException):
    """As `pytest.fail` raises it: no `Exception`."""


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


class Executor:
    """Plays a scene for each command, chosen by a generator of its own."""

    def __init__(self, chance: random.Random, freed: asyncio.Event) -> None:
        self._chance = chance
        self._freed = freed
        self._leaked: list[Any] = []
        self.timers: list[asyncio.TimerHandle] = []
        self.pool: Pool | None = None
        self.scenes: list[Callable[[], Awaitable[object]]] = [
            getattr(self, name) for name in sorted(dir(self)) if name.startswith("do_")
        ]

    async def execute(self, command: CommandConfig) -> CommandResult:
        await turns(self._chance.randrange(4))
        given = await self._chance.choice(self.scenes)()
        return result_of(command) if given is None else given  # type: ignore[return-value]

    async def do_end_well(self) -> None:
        await turns(2)

    async def do_raise(self) -> None:
        errors = [ValueError(), ExecuteError("bad"), asyncio.CancelledError(), Abort("bad"), GeneratorExit(), OSError()]
        raise self._chance.choice(errors)

    async def do_return_garbage(self) -> object:
        return self._chance.choice([7, "result", object()])

    async def do_never_end(self) -> None:
        await self._freed.wait()

    async def do_swallow_for_ever(self) -> None:
        while not self._freed.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self._freed.wait()

    async def do_swallow_once(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await self._freed.wait()
        await turns(2)

    async def do_cancel_itself(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        if self._chance.random() < 0.5:
            with contextlib.suppress(asyncio.CancelledError):
                await turns(1)
        elif self._chance.random() < 0.5:
            await turns(1)

    async def do_have_itself_cancelled(self) -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        how = self._chance.randrange(3)
        if how == 0:
            self.timers.append(loop.call_later(self._chance.random() / 50, task.cancel))
        elif how == 1:
            await asyncio.create_task(cancels(task))
        else:
            thread = threading.Thread(target=loop.call_soon_threadsafe, args=(task.cancel,))
            thread.start()
            thread.join()
        await turns(self._chance.randrange(4))

    async def do_time_out(self) -> None:
        async with asyncio.timeout(0.001):
            await self._freed.wait()

    async def do_cancel_by_level(self) -> None:
        with anyio.move_on_after(0.002):
            await self.do_swallow_once()

    async def do_leave_a_scope_open(self) -> None:
        scope = anyio.CancelScope()
        scope.__enter__()
        self._leaked.append(scope)
        scope.cancel()

    async def do_use_the_pool_elsewhere(self) -> None:
        async def use() -> None:
            assert self.pool is not None
            await self.pool.stop()

        thread = Elsewhere(use)
        await thread.over()
        assert isinstance(thread.error, ExecuteError), thread.error

    async def do_stop_the_pool(self) -> None:
        assert self.pool is not None
        await self.pool.stop()

    async def do_clear_the_queue(self) -> None:
        if isinstance(self.pool, CommandPool):
            self.pool.clear()


async def cancels(task: "asyncio.Task[Any]") -> None:
    task.cancel()


class Elsewhere:
    """A coroutine function, on a loop of its own in a thread of its own."""

    def __init__(self, work: Callable[[], Awaitable[object]]) -> None:
        self.error: BaseException | None = None
        self._work = work
        self._over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        async def work() -> None:
            await self._work()

        try:
            asyncio.run(work())
        except BaseException as error:
            self.error = error
        self._loop.call_soon_threadsafe(self._over.set)

    async def over(self) -> None:
        try:
            await self._over.wait()
        finally:
            self._thread.join()


class Hook:
    """Raises, cancels, clears, pushes and lies, now and then."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.pool: Pool | None = None
        self.handles: list[TaskHandle] = []

    def __call__(self, event: object) -> None:
        deed = self._chance.randrange(40)
        if deed == 0:
            raise ValueError("in a hook")
        if deed == 1:
            raise Abort("in a hook")
        if deed == 2:
            raise asyncio.CancelledError("in a hook")
        if deed == 3 and self.handles:
            self._chance.choice(self.handles).cancel()
        if deed == 4 and isinstance(self.pool, CommandPool):
            self.pool.clear()
        if deed == 5 and self.pool is not None and len(self.handles) < 200:
            with contextlib.suppress(ExecuteError):
                push = self.pool.try_push_task if isinstance(self.pool, CommandPool) else self.pool.push_task
                self.handles.append(push(named("pushed by a hook", grace=GRACE, leftover_grace=0)))


class Caller:
    """Pushes, and treats what it gets badly."""

    def __init__(self, chance: random.Random, pool: Pool, handles: list[TaskHandle]) -> None:
        self._chance = chance
        self._pool = pool
        self._handles = handles

    async def call(self) -> None:
        """Do one thing; whatever comes of it is nobody's business here."""
        deeds = [
            self.execute,
            self.push,
            self.push,
            self.cancel,
            self.give_up_by_level,
            self.misuse,
            self.await_elsewhere,
        ]
        with contextlib.suppress(ExecuteError, Abort, Exception, GeneratorExit):
            await self._chance.choice(deeds)()

    async def push(self) -> TaskHandle:
        command = named("a", grace=GRACE, leftover_grace=0)
        if isinstance(self._pool, CommandPool):
            timeout = self._chance.choice([None, None, 0, 0.01])
            handle = await self._pool.push_task(command, priority=self._chance.randrange(3), queue_timeout=timeout)
        else:
            handle = self._pool.push_task(command)
        self._handles.append(handle)
        if self._chance.random() < 0.3:
            handle.add_done_callback(self._raise)
        return handle

    def _raise(self, _: object) -> None:
        raise ValueError("in a callback")

    async def execute(self) -> None:
        async with asyncio.timeout(self._chance.random() / 20):
            await self._pool.execute(named("b", grace=GRACE, leftover_grace=0))

    async def give_up_by_level(self) -> None:
        with anyio.move_on_after(self._chance.random() / 50):
            await self._pool.execute(named("c", grace=GRACE, leftover_grace=0))

    async def cancel(self) -> None:
        handle = await self.push()
        await turns(self._chance.randrange(6))
        for _ in range(self._chance.randrange(1, 3)):
            handle.cancel()

    async def misuse(self) -> None:
        await self._pool.execute("no command")  # type: ignore[arg-type]

    async def await_elsewhere(self) -> None:
        handle = await self.push()
        if isinstance(self._pool, CommandPool):

            async def use() -> None:
                await handle.wait_settled()

            await Elsewhere(use).over()
