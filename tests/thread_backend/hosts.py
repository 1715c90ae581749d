"""Hosts that leave a loop behind: `python -m thread_backend.hosts SCENARIO LOOP PIPE`."""

import asyncio
import os
import sys

from contract.loops import LOOPS
from contract.support import helper

from aiocmdpool.backends.child.thread import ThreadBackend

_KEPT: list[object] = []  # what nobody else refers to


def begin(loop: asyncio.AbstractEventLoop, ready: str) -> "asyncio.Task[object]":
    """A command that runs on a loop which is not run any more."""
    command = helper("sleep_after_ready", ready, grace=0.05)
    task: asyncio.Task[object] = loop.create_task(ThreadBackend().execute(command))
    loop.run_until_complete(loop.run_in_executor(None, sys.stdin.readline))
    return task


def left_loop(loop: asyncio.AbstractEventLoop, ready: str) -> None:
    """The interpreter ends with the loop neither run nor closed."""
    _KEPT.extend([loop, begin(loop, ready)])


def closed_loop(loop: asyncio.AbstractEventLoop, ready: str) -> None:
    """The loop is closed, and nobody has ended its tasks."""
    _KEPT.append(begin(loop, ready))
    loop.close()


def dropped_await(loop: asyncio.AbstractEventLoop, ready: str) -> None:
    """The await itself is thrown away."""
    coroutine = ThreadBackend().execute(helper("sleep_after_ready", ready, grace=0.05))

    async def first_step() -> object:
        return coroutine.send(None)

    loop.run_until_complete(first_step())
    loop.run_until_complete(loop.run_in_executor(None, sys.stdin.readline))
    coroutine.close()
    print("dropped", flush=True)
    loop.run_until_complete(loop.run_in_executor(None, sys.stdin.readline))
    loop.close()


def forked(loop: asyncio.AbstractEventLoop, ready: str) -> None:
    """A fork of the host ends while a command runs, which is not its business."""
    task = begin(loop, ready)
    child = os.fork()
    if not child:
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    print((status, task.done()), flush=True)
    loop.run_until_complete(loop.run_in_executor(None, sys.stdin.readline))
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    print(task.cancelled())
    loop.close()


def main() -> None:
    scenario, name, ready = sys.argv[1:]
    loop = LOOPS[name]()
    globals()[scenario](loop, ready)


if __name__ == "__main__":
    main()
