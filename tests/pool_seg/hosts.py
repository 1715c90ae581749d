"""Scenarios that need a Python process of their own: `python -m pool_seg.hosts SCENARIO LOOP [PIPE]`."""

import asyncio
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from contract.loops import LOOPS
from contract.support import helper

from aiocmdpool import CommandConfig, ExecutionConfig, ExecutionMode
from aiocmdpool.pool.seg_pool import CommandPoolSeg

_KEPT: list[object] = []  # what nobody else refers to


def ends_of(handles: Any) -> list[tuple[str, str]]:
    return [(handle.status.value, type(handle.exception()).__name__) for handle in handles]


def config(mode: str) -> ExecutionConfig:
    return ExecutionConfig(mode=ExecutionMode[mode], concurrency_limit=1)


def end_of_run(loop: str, ready: str) -> None:
    """`asyncio.run` ends with a pool that nobody stops, and waits for a thread that waits for its pending task."""
    handles = []

    def wait_for_the_last() -> None:
        handles[-1].exception()

    async def use_pool() -> None:
        pool = CommandPoolSeg(config("PROCESS"))
        _KEPT.append(pool)
        await pool.start_executor()
        handles.extend(pool.push_tasks([helper("ignore_sigterm", ready, grace=0.05), CommandConfig("true")]))
        _KEPT.append(asyncio.get_running_loop().run_in_executor(None, wait_for_the_last))
        await asyncio.to_thread(sys.stdin.readline)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(use_pool())
    print(ends_of(handles))


def closed_loop(loop_name: str) -> None:
    """The loop is closed, and nobody has ended its tasks, nor stopped the pool."""

    class Executor:
        async def execute(self, command: CommandConfig) -> Any:
            await asyncio.Event().wait()

    loop = LOOPS[loop_name]()
    pool = CommandPoolSeg(config("PROCESS"), executor=Executor())
    loop.run_until_complete(pool.start_executor())
    handles = pool.push_tasks([CommandConfig("running"), CommandConfig("pending")])
    while handles[0].status.value == "pending":
        loop.run_until_complete(asyncio.sleep(0))
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(handle.exception) for handle in handles]
        while not all(handle._listeners for handle in handles):
            loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()
        print([type(each.result()).__name__ for each in waiting], str(waiting[0].result()))
    print(ends_of(handles))
    for push in (lambda: pool.push_task(CommandConfig("late")), lambda: pool.push_tasks([CommandConfig("late")])):
        try:
            push()
        except Exception as error:
            print(type(error).__name__, error)
    now = pool.statistics()
    print((len(pool), pool.is_stopped(), handles[0].cancel(), now.queued, now.running, now.cancelled))


def forked(loop: str) -> None:
    """A fork may not use the pool of its parent, and does it no harm."""

    async def use_pool() -> None:
        async with CommandPoolSeg(config("PROCESS")) as pool:
            assert (await pool.execute(CommandConfig("true"))).ok
            child = os.fork()
            if not child:
                try:
                    pool.push_task(CommandConfig("true"))
                except Exception as error:
                    print(type(error).__name__, error, flush=True)
                os._exit(0)
            os.waitpid(child, 0)
            print((await pool.execute(CommandConfig("true"))).ok)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(use_pool())


def threads_at_the_end(loop: str, ready: str) -> None:
    """Threads push until they are told that it is over, while `asyncio.run` ends in the middle of it."""
    handles: list[list[Any]] = [[] for _ in range(4)]
    said: list[str] = []

    def push(mine: list[Any]) -> None:
        try:
            while True:
                mine.append(_KEPT[0].push_task(CommandConfig("true")))  # type: ignore[attr-defined]
                mine[-1].done() or len(mine) % 50 or mine[-1].exception()
        except Exception as error:
            said.append(type(error).__name__)

    async def use_pool() -> None:
        pool = CommandPoolSeg(ExecutionConfig(mode=ExecutionMode.PROCESS, concurrency_limit=4))
        _KEPT.append(pool)
        await pool.start_executor()
        for thread in threads:
            thread.start()
        while pool.statistics().completed < 50:
            await asyncio.sleep(0.001)

    threads = [threading.Thread(target=push, args=(mine,)) for mine in handles]
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(use_pool())
    for thread in threads:
        thread.join()
    every = [handle for mine in handles for handle in mine]
    print((said, {handle.done() for handle in every}, len({handle.id for handle in every}) == len(every)))
    counts = _KEPT[0].statistics()  # type: ignore[attr-defined]
    print(counts.submitted == len(every) == counts.completed + counts.failed + counts.cancelled)


def main() -> None:
    scenario, loop, *args = sys.argv[1:]
    globals()[scenario](loop, *args)


if __name__ == "__main__":
    main()
