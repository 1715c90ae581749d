"""Forks."""

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
import time

from aiocmdpool import CommandConfig, CommandPoolSeg, ExecuteError, ExecutionConfig, ProcessBackend, sync

from .common import KEPT, pool_of, say, wait_for_test, waits


def _attempt(call):
    try:
        return call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def forks(mode, ready, release):
    """A pool in use, and a fork: the child has a facade of its own, and the parent's goes on."""
    waiting = waits(ready, release)
    unused = sync.CommandPool()
    pool = pool_of(mode)
    pool.start_executor()
    handle = pool.push_task(waiting)
    if (child := os.fork()) == 0:
        say(pool.execute(CommandConfig("echo", ["born anew"])).text().strip())
        say(_attempt(lambda: handle.result(1)))
        say(_attempt(handle.cancel))
        say(sync.run("echo", "a fresh one").text().strip())
        with unused:
            say(unused.execute(CommandConfig("echo", ["made by the parent"])).text().strip())
        sys.exit(5)
    _, status = os.waitpid(child, 0)
    say(os.waitstatus_to_exitcode(status))
    wait_for_test()
    say(handle.result().text().strip(), pool.execute(CommandConfig("echo", ["unharmed"])).text().strip())
    pool.stop()


def preloaded():
    """All made and used before the fork, as at the level of a module, and used in a child, and in its child."""
    config = ExecutionConfig(workers=1, concurrency_limit=2)
    pool, seg, process_pool = sync.CommandPool(config), sync.CommandPoolSeg(config), sync.ProcessPool(1)
    stopped = pool_of("PROCESS")
    KEPT.append((pool, seg, process_pool))
    for each in (pool, seg, stopped):
        each.start_executor()
        each.execute(CommandConfig("true"))
    stopped.stop()
    process_pool.execute(CommandConfig("true"))
    tasks = seg.push_tasks([CommandConfig("true")] * 3)
    for _ in range(2):
        if (child := os.fork()) != 0:
            break
        say(_attempt(lambda: stopped.execute(CommandConfig("true"))))
        say(len(seg), pool.statistics().submitted, seg.statistics().submitted, _attempt(tasks[0].cancel))
        for each in (pool, seg, process_pool):
            say(each.execute(CommandConfig("echo", [type(each).__name__])).text().strip())
        say(
            [
                handle.result().ok
                for handle in (pool.push_task(CommandConfig("true")), seg.push_task(CommandConfig("true")))
            ]
        )
    else:
        sys.exit(0)
    os.waitpid(child, 0)
    for each in (pool, seg, process_pool):
        assert each.execute(CommandConfig("true")).ok
    pool.stop()
    seg.stop()
    process_pool.close()


def multiprocessed():
    """The same by way of multiprocessing, whose children end without `atexit`."""
    with multiprocessing.get_context("fork").Pool(2) as processes:
        say(processes.map(_use, range(4)))


SHARED = sync.CommandPool()


def _use(number):
    return SHARED.push_task(CommandConfig("echo", [str(number)])).result().text().strip()


def forks_in_with(mode):
    """The child leaves the `with` of the parent's pool, which is none of its business."""
    with pool_of(mode) as pool:
        pool.execute(CommandConfig("true"))
        if (child := os.fork()) == 0:
            sys.exit(5)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        say(pool.execute(CommandConfig("echo", ["unharmed"])).text().strip())


class Busy:
    """An executor that is in the middle of something, on the loop, for a while."""

    def __init__(self):
        self.inside = threading.Event()

    async def execute(self, command):
        self.inside.set()
        time.sleep(0.2)  # it stands for the start of a program, which takes its time
        self.inside.clear()
        return await CUSTOM.execute(command)


CUSTOM = ProcessBackend()


def forks_in_the_middle():
    """A fork while the background thread is in the middle of something: in the child that would never end."""
    busy = Busy()
    with sync.CommandPool(executor=busy) as pool:
        pool.push_task(CommandConfig("true"))
        busy.inside.wait()
        if (child := os.fork()) == 0:
            os._exit(busy.inside.is_set())
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def forks_while_threads_use_it():
    """As a pre-forking server that forks again when a worker has died."""
    stop = threading.Event()

    def use():
        while not stop.is_set():
            sync.run("true")

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    statuses = []
    for _ in range(10):
        if (child := os.fork()) == 0:
            try:
                os._exit(sync.run("sh", "-c", "exit 4").returncode)
            finally:
                os._exit(1)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    stop.set()
    for thread in threads:
        thread.join()
    say(statuses)


def forks_in_map(end, ordered):
    """A fork in the middle of a loop over `map`, whose generator the child closes on its way out."""
    with pool_of("PROCESS") as pool:
        results = pool.map(
            [CommandConfig("true"), *[CommandConfig("sleep", ["0.3"])] * 2], ordered=ordered == "ordered", in_flight=3
        )
        seen = [next(results).ok]
        if (child := os.fork()) == 0:
            if end == "close":
                results.close()
            elif end == "next":
                say(_attempt(lambda: next(results)))
            sys.exit(5)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        say(seen + [result.ok for result in results])


def awaits_what_is_inherited(kind, ready, release):
    pool = CommandPoolSeg() if kind == "of a loop" else getattr(sync, kind)()
    KEPT.append(pool)
    handle = pool.push_task(waits(ready, release))

    async def attempt(wait):
        try:
            await wait()
        except ExecuteError as error:
            return f"{type(error).__name__}: {error}"

    if (child := os.fork()) == 0:
        say(asyncio.run(attempt(lambda: handle)))
        say(asyncio.run(attempt(handle.wait_settled)))
        os._exit(0)
    say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    handle.cancel()
    if kind != "of a loop":
        pool.stop(drain=False)


def forks_in_a_wait(kind, ready, release):
    children = []

    def fork(*_):
        children.append(os.fork())

    signal.signal(signal.SIGALRM, fork)
    with getattr(sync, kind)() as pool:
        handle = pool.push_task(waits(ready, release))
        signal.setitimer(signal.ITIMER_REAL, 0.2)  # it is in the wait by then, or comes to it as the child does
        outcome = _attempt(lambda: handle.result().text().strip())
        if children == [0]:
            say(outcome)
            os._exit(5)
        say(outcome)
        say(os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]))
