"""Hosts that end in ways of their own: `python -m process_pool.ending_hosts SCENARIO LOOP [ARG...]`.

Each tells its test what it saw by printing Python literals, or by a named pipe.
"""

import asyncio
import gc
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from contract.loops import LOOPS
from contract.support import helper

from aiocmdpool.backends.child.process import ProcessBackend
from aiocmdpool.backends.workers.process_pool import ProcessPool
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.result import KillTier

from .hosts import read, say
from .support import in_background, outcome, sh, until

if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT: list[object] = []  # what nobody else refers to

NEWCOMER = 'setsid sh -c \'echo $$ >"$1"; echo >"$2"; exec sleep 60\' sh "$1" "$2" </dev/null >/dev/null 2>&1 &'
DAEMON = f'{NEWCOMER} read x <"$2"'


# -- a pool that nobody closes ----


async def used_pool(ready: str) -> ProcessPool:
    """Says the pids of its workers."""
    pool = ProcessPool(2)
    _KEPT.append(pool)
    await pool.execute(CommandConfig("true"))
    await until(lambda: len(pool._workers) == 2 and all(worker.ready for worker in pool._workers))
    for pid in pool.statistics().pids:
        say(ready, pid)
    return pool


async def returns(ready: str) -> None:
    await used_pool(ready)


async def exits(ready: str) -> None:
    await used_pool(ready)
    sys.exit(3)


async def raises(ready: str) -> None:
    await used_pool(ready)
    raise ZeroDivisionError("as the test wants")


async def exits_at_once(ready: str) -> None:
    await used_pool(ready)
    os._exit(4)


async def closes(ready: str) -> None:
    await (await used_pool(ready)).aclose()


def forgets(loop: str, ready: str) -> None:
    """The pool is garbage before this process ends."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(used_pool(ready))
    _KEPT.clear()
    gc.collect()


# -- forks ----


def forks_and_its_child_ends_like_any_program(loop: str) -> None:
    """The child uses and forgets what it has inherited, and leaves through the whole of the interpreter's end."""
    running = LOOPS[loop]()
    pool = ProcessPool(2)
    running.run_until_complete(pool.execute(CommandConfig("true")))
    before = pool.statistics().pids
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        own = asyncio.new_event_loop()
        for attempt in (pool.aclose(), pool.aclose(drain=True), pool.start(), pool.execute(CommandConfig("true"))):
            error = own.run_until_complete(outcome(attempt))
            os.write(write_end, f"{type(error).__name__}: {error}\n".encode())
        own.close()
        del pool
        gc.collect()
        sys.exit(5)
    os.close(write_end)
    _, status = os.waitpid(pid, 0)
    with open(read_end) as errors:
        print(errors.read().splitlines())
    print(os.waitstatus_to_exitcode(status))
    print(running.run_until_complete(pool.execute(CommandConfig("echo", ["fine"]))).text().strip() == "fine")
    print(pool.statistics().pids == before)
    running.run_until_complete(pool.aclose())
    running.close()


def forks_and_its_child_closes_with_the_same_loop(loop: str) -> None:
    """What the loop watches belongs to the parent."""
    running = LOOPS[loop]()
    pool = ProcessPool(1)
    running.run_until_complete(pool.execute(CommandConfig("true")))
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        error = running.run_until_complete(outcome(pool.aclose()))
        os.write(write_end, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(write_end)
    os.waitpid(pid, 0)
    with open(read_end) as errors:
        print([errors.read()])
    print(running.run_until_complete(pool.execute(CommandConfig("echo", ["fine"]))).text().strip() == "fine")
    running.run_until_complete(pool.aclose())
    running.close()


# -- daemons ----


async def leaves_a_daemon_and_is_killed(ready: str, release: str, go: str) -> None:
    """Says the pid of the daemon, then those of the workers and of a program that runs."""
    pool = ProcessPool(2)
    _KEPT.append(pool)
    await pool.execute(sh(DAEMON, ready, release, detach=True))
    for pid in pool.statistics().pids:
        say(ready, pid)
    _KEPT.extend(in_background(pool, helper("sleep_after_ready", ready)))
    await asyncio.to_thread(read, go)
    os.kill(os.getpid(), signal.SIGKILL)


# -- the first process of a container ----


def others() -> list[int]:
    """All processes but this one, zombies included; threads of this one are none."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and int(entry) != os.getpid()]


async def is_the_first_process(ready: str) -> None:
    os.set_blocking(pipe := os.open(ready, os.O_RDWR), True)
    print(os.getpid())
    async with ProcessPool(1) as pool:
        print((await pool.execute(sh("exit 7"))).returncode)
        await pool.execute(helper("double_fork", ready, "leave", "session"))
        [running] = in_background(pool, helper("double_fork", ready, "stay", "session"))
        lines = 0
        while lines < 4:
            lines += (await asyncio.to_thread(os.read, pipe, 1000)).count(b"\n")
        [worker] = pool.statistics().pids
        os.kill(worker, signal.SIGKILL)
        error = await running
        print((type(error).__name__, error.killed_by in (KillTier.CGROUP, KillTier.DESCENDANTS)))
        print((await pool.execute(sh("exit 7"))).returncode)
        guardian = pool._crew._guardian
        await until(lambda: guardian.pid, "it says its pid when it likes")
        expected = {*pool.statistics().pids, guardian.pid}
        await until(lambda: set(others()) == expected, "only the new worker is there, and the guardian")
        print([pid in others() for pid in pool.statistics().pids])
    await until(lambda: not others(), "nobody is there")
    print(others())


async def is_the_first_process_and_starts_them_itself(ready: str) -> None:
    """Orphans come to this process, which has to reap those that it has killed."""
    async with ProcessBackend() as backend:
        for command in (
            helper("double_fork", ready, "leave", "session"),
            helper("hold_stdout", ready, 0),
            helper("double_fork", ready, "leave"),
            CommandConfig("sleep", ["60"], timeout=0.05),
        ):
            await outcome(backend.execute(command))
            print(others())


def main() -> None:
    name, loop, *args = sys.argv[1:]
    scenario: Callable[..., Any] = globals()[name]
    if not asyncio.iscoroutinefunction(scenario):
        scenario(loop, *args)
        return
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(scenario(*args))


if __name__ == "__main__":
    main()
