"""Ways to end the interpreter."""

import atexit
import logging
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from contract.support import helper

from aiocmdpool import CommandConfig, PoolClosed, sync
from aiocmdpool.sync import process_wide

from .common import KEPT, pool_of, say, stubborn, wait_for_test, waits


def left_open(mode, ready):
    """A pool that nobody stops, with something running, and a one-shot in a daemon thread."""
    pool = pool_of(mode)
    pool.start_executor()
    KEPT.append((pool, pool.push_task(stubborn(ready))))
    wait_for_test()


def exits(ready):
    """`sys.exit` in the middle of a `with`."""
    with pool_of("PROCESS_POOL") as pool:
        pool.push_task(stubborn(ready))
        wait_for_test()
        sys.exit(7)


def threads_blocked(ready):
    """Daemon threads blocked in every kind of call, and one that makes a new one as soon as it is told anything."""

    def again_and_again():
        while True:
            sync.run("true")

    pool = pool_of("PROCESS_POOL")
    pool.start_executor()
    handle = pool.push_task(stubborn(ready))
    calls = [
        lambda: sync.execute(stubborn(ready)),
        lambda: pool.execute(stubborn(ready)),
        lambda: handle.result(),
        lambda: handle.result(60),
        lambda: list(pool.map([stubborn(ready)])),
        again_and_again,
    ]
    for call in calls:
        threading.Thread(target=call, daemon=True).start()
    wait_for_test()


def executor_blocked(ready):
    """Jobs of an executor blocked in every kind of call, and more behind them: the interpreter waits for all jobs."""
    logging.basicConfig()
    pool = pool_of("PROCESS_POOL")
    pool.start_executor()
    seg = sync.CommandPoolSeg()
    KEPT.append((pool, seg))
    handle = pool.push_task(stubborn(ready))
    calls = [
        lambda: sync.execute(stubborn(ready)),
        lambda: pool.execute(stubborn(ready)),
        lambda: handle.result(),
        lambda: seg.push_task(stubborn(ready)).result(),
        lambda: list(pool.map([stubborn(ready)])),
    ]
    executor = ThreadPoolExecutor(len(calls))
    jobs = [executor.submit(call) for call in calls]
    jobs += [executor.submit(sync.run, "touch", "/never") for _ in range(100)]
    for job in jobs:
        job.add_done_callback(_no_result)
    wait_for_test()


def _no_result(job):
    if not isinstance(job.exception(), PoolClosed):
        say(job)


def impatient(ready):
    """Ctrl-C while the end of the interpreter waits for a command to die."""
    pool = pool_of("PROCESS_POOL")
    pool.start_executor()
    KEPT.append((pool, pool.push_task(helper("note_sigterm", ready, grace=2.0))))
    wait_for_test()


class Blocking:
    """An executor that never gives the loop back."""

    async def execute(self, command):
        say("blocked")
        time.sleep(60)  # it is what is tested: nobody waits for the end of it
        raise AssertionError


def loop_blocked():
    """An executor blocks the loop when the interpreter ends."""
    process_wide.EXIT_TIMEOUT = 0.1
    pool = sync.CommandPool(executor=Blocking())
    pool.start_executor()
    KEPT.append((pool, threading.Thread(target=pool.execute, args=(CommandConfig("true"),), daemon=True)))
    KEPT[0][1].start()
    wait_for_test()


def thread_goes_on(ready, release):
    """A thread that is no daemon keeps the interpreter until its command has ended, as any blocking call does."""
    command = waits(ready, release)
    sync.run("true")  # from when the main thread has ended, CPython 3.12 starts no threads
    threading.Thread(target=lambda: say(sync.execute(command).text().strip())).start()


def first_use_without_main_thread():
    """A thread uses the facade for the first time when the main thread has ended."""

    def run():
        threading.main_thread().join()
        try:
            say(sync.run("echo", "went on").text().strip())
        except Exception as error:
            say(type(error).__name__, error)

    threading.Thread(target=run).start()


def used_at_exit():
    """Handlers that run before and after that of the facade."""

    def too_late():
        try:
            sync.run("true")
        except Exception as error:
            say(type(error).__name__, error)

    atexit._clear()
    atexit.register(too_late)
    atexit.register(process_wide._at_exit)
    atexit.register(lambda: say(sync.run("echo", "in time").text().strip()))
    sync.run("true")
