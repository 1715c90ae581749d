"""Every backend that must keep the contract, and what must keep it around one. A new one is one line here."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Self

from aiocmdpool import CommandPool, CommandPoolSeg, ExecutionConfig, ExecutionMode
from aiocmdpool.backends.child.process import ProcessBackend
from aiocmdpool.backends.child.thread import ThreadBackend
from aiocmdpool.backends.process_pool import ProcessPoolBackend
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.policies import Admission, CircuitBreaker, KeyLimit, RateLimit, Retry, SingleFlight


class PoolAsBackend:
    """A pool with the life of a backend: closing it ends what runs."""

    def __init__(self, pool: CommandPool | CommandPoolSeg) -> None:
        self._pool = pool

    async def execute(self, command: CommandConfig) -> CommandResult:
        return await self._pool.execute(command)

    async def aclose(self) -> None:
        await self._pool.stop(drain=False)

    async def __aenter__(self) -> Self:
        await self._pool.start_executor()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class InPolicies:
    """A backend in all policies at once, with settings that never have to act."""

    def __init__(self) -> None:
        self._backend = ProcessBackend()
        single = SingleFlight(Admission(self._backend, min_memory=1), key=lambda _: object())  # no two are equal
        breaker = CircuitBreaker(single, failures=1_000_000)
        self._outermost = RateLimit(KeyLimit(Retry(breaker, attempts=1), 1000), 1_000_000, burst=1000)

    async def execute(self, command: CommandConfig) -> CommandResult:
        return await self._outermost.execute(command)

    async def aclose(self) -> None:
        await self._backend.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


PROCESS = ExecutionConfig(mode=ExecutionMode.PROCESS, concurrency_limit=1000)

BACKENDS: dict[str, Callable[[], AbstractAsyncContextManager[Any]]] = {
    "process": lambda: ProcessBackend(),
    "thread": lambda: ThreadBackend(),
    "process_pool": lambda: ProcessPoolBackend(1),  # starting a second one for each test takes a fifth of the time
    "policies": InPolicies,
    "command_pool": lambda: PoolAsBackend(CommandPool(PROCESS)),
    "command_pool_seg": lambda: PoolAsBackend(CommandPoolSeg(PROCESS)),
}

QUICK = ("process", "process_pool")
"""Those that the quick suite takes through the contract: the others run what these run."""
