"""Signal handlers that raise in a blocked call."""

import os
import signal
import sys
import threading
import time
from contextlib import closing

from aiocmdpool import CommandConfig, ExecutionConfig, sync
from aiocmdpool.sync import on_loop

from .common import KEPT, pool_of, say, stubborn, wait_for_test


def _in_map(command):
    with pool_of("PROCESS_POOL") as pool, closing(pool.map([command])) as results:
        next(results)


def _in_map_as_completed(command):
    with pool_of("PROCESS_POOL") as pool, closing(pool.map([command], ordered=False)) as results:
        next(results)


def _in_result(command):
    pool = pool_of("PROCESS_POOL")
    pool.start_executor()
    KEPT.append(pool)
    pool.push_task(command).result(60)


def _in_seg_result(command):
    pool = sync.CommandPoolSeg()
    KEPT.append(pool)
    pool.push_task(command).result()


def _in_pool(command):
    pool = pool_of("PROCESS")
    pool.start_executor()
    KEPT.append(pool)
    pool.execute(command)


def _in_stop(command):
    pool = pool_of("PROCESS_POOL")
    pool.start_executor()
    pool.push_task(command)
    pool.stop()


def _in_process_pool(command):
    pool = sync.ProcessPool(1)
    KEPT.append(pool)
    pool.execute(command)


FACADE = ("aiocmdpool/sync/", "tasks/thread_handle.py", "loops/gate.py", "loops/interruptions.py")

BLOCKED = {
    "execute": sync.execute,
    "pool": _in_pool,
    "process_pool": _in_process_pool,
    "result": _in_result,
    "seg_result": _in_seg_result,
    "map": _in_map,
    "map_as_completed": _in_map_as_completed,
    "stop": _in_stop,
}


def interrupted(where, ready):
    """Blocked until a signal handler raises; then everything must be usable as before."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    try:
        BLOCKED[where](stubborn(ready))
    except BaseException as error:
        say(type(error).__name__)
        wait_for_test()
    say(sync.run("echo", "hello").text().strip())


def waits_for_room(ready):
    """Interrupted while it waits for room in a queue: nothing is pushed."""
    on_loop.START_SOON = 60.0  # it does not start by itself, and so make room, however late the signal comes
    pool = sync.CommandPool(ExecutionConfig(concurrency_limit=1), max_size=1)
    pool.push_task(CommandConfig("true"))
    try:
        threading.Thread(target=lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        pool.push_task(CommandConfig("true"))
    except KeyboardInterrupt:
        say(pool.statistics().submitted, len(pool))
    pool.stop(drain=False)


def interrupted_once_pushed():
    """Interrupted when the task is accepted and its handle is not there yet."""
    pool = sync.CommandPool(hooks=[lambda event: os.kill(os.getpid(), signal.SIGINT)])
    try:
        pool.push_task(CommandConfig("true"))
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end of the task is an event, too
        say(pool.statistics().submitted, pool.statistics().cancelled)
    pool.stop()


def storm(count):
    """Interrupted at any moment, again and again: the facade goes on, and leaves nothing (which the test sees)."""
    pool = sync.CommandPool(ExecutionConfig(concurrency_limit=2, workers=1))
    pool.start_executor()
    seg = sync.CommandPoolSeg()
    main, interruptions = threading.get_ident(), 0
    going = True

    def interrupt():
        while going:
            signal.pthread_kill(main, signal.SIGINT)
            time.sleep(0.0007)  # nothing is waited for: it is the pace

    thread = threading.Thread(target=interrupt)
    calls = [
        lambda: sync.run("true"),
        lambda: pool.execute(CommandConfig("true")),
        lambda: pool.push_task(CommandConfig("true")).result(60),
        lambda: list(pool.map([CommandConfig("true")] * 3)),
        lambda: seg.push_task(CommandConfig("true")).result(60),
    ]

    def work():
        nonlocal interruptions
        while interruptions < int(count):
            try:
                for call in calls:
                    call()
            except KeyboardInterrupt:
                interruptions += 1

    signal.signal(signal.SIGINT, lambda *_: _interrupt_if_inside())
    thread.start()
    try:
        work()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        going = False
        thread.join()
    pool.stop()
    seg.stop()
    now, its = pool.statistics(), seg.statistics()
    say(interruptions, now.queued + its.queued, now.running + its.running, sync.run("echo", "hello").text().strip())


def _interrupt_if_inside():
    """Raise in the facade only: what an interruption does to this host, or to a weak reference, is not tested."""
    interrupted = sys._getframe(2).f_code.co_filename
    if any(part in interrupted for part in FACADE):
        raise KeyboardInterrupt
