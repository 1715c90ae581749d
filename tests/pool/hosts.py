"""Scenarios that need a Python process of their own: `python -m pool.hosts SCENARIO LOOP [ARG...]`.

Each tells its test what it saw by printing Python literals.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from contract.loops import LOOPS
from contract.support import helper

from aiocmdpool import CommandConfig, CommandPool, CommandResult, ExecutionConfig, ExecutionMode, TaskHandle

Scenario = Callable[..., Coroutine[Any, Any, None]]

_HANDLES: list[TaskHandle] = []
_KEPT: list[object] = []  # what nobody else refers to


def config(mode: str, limit: int = 2) -> ExecutionConfig:
    return ExecutionConfig(mode=ExecutionMode[mode], concurrency_limit=limit)


async def left_in_use(mode: str, ready: str) -> None:
    """A pool in use in a task of its own, which `asyncio.run` cancels with all others when this returns."""

    async def use_pool() -> None:
        async with CommandPool(config(mode)) as pool:
            commands = [helper("ignore_sigterm", ready, grace=0.05)] * 2 + [CommandConfig("true")] * 3
            _HANDLES.extend(await pool.push_tasks(commands))
            await _HANDLES[0]

    _KEPT.append(asyncio.create_task(use_pool()))
    await asyncio.to_thread(sys.stdin.readline)


async def left_in_map(mode: str, ready: str) -> None:
    """The same, with the pool in the middle of a map."""

    async def use_pool() -> None:
        async with CommandPool(config(mode)) as pool:
            async for _ in pool.map([helper("ignore_sigterm", ready, grace=0.05)] * 5):
                pass

    _KEPT.append(asyncio.create_task(use_pool()))
    await asyncio.to_thread(sys.stdin.readline)


async def abandoned(mode: str, ready: str) -> None:
    """A pool that nobody stops."""
    pool = CommandPool(config(mode))
    await pool.start_executor()
    _KEPT.append(pool)
    _HANDLES.extend(await pool.push_tasks([helper("ignore_sigterm", ready, grace=0.05)] * 2))
    await asyncio.to_thread(sys.stdin.readline)


class Interrupting:
    """An executor that raises what is no error of the command: Ctrl-C, or `sys.exit`."""

    def __init__(self, interruption: BaseException) -> None:
        self._interruption = interruption

    async def execute(self, command: CommandConfig) -> CommandResult:
        await asyncio.sleep(0)
        if command.program == "interrupt":
            raise self._interruption
        await asyncio.sleep(60)
        raise AssertionError


async def interrupted(kind: str) -> None:
    """One of two running commands raises KeyboardInterrupt or SystemExit."""
    interruption = {"KeyboardInterrupt": KeyboardInterrupt, "SystemExit": SystemExit}[kind]("stop all")
    async with CommandPool(ExecutionConfig(concurrency_limit=2), executor=Interrupting(interruption)) as pool:
        _HANDLES.extend(await pool.push_tasks(map(CommandConfig, ["sleep", "interrupt", "waiting"])))
        await _HANDLES[0]


async def signalled(mode: str, ready: str) -> None:
    """Ctrl-C while the pool is in use, as `asyncio.run` has it: the main task is cancelled."""
    async with CommandPool(config(mode, 1)) as pool:
        _HANDLES.extend(await pool.push_tasks([helper("ignore_sigterm", ready, grace=0.05), CommandConfig("true")]))
        await _HANDLES[0]


def main() -> None:
    name, loop, *args = sys.argv[1:]
    scenario: Scenario = globals()[name]
    raised = None
    try:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(scenario(*args))
    except BaseException as error:
        raised = type(error).__name__
    print((raised, [(handle.status.value, type(handle.exception()).__name__) for handle in _HANDLES]))


if __name__ == "__main__":
    main()
