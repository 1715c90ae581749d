"""Scenarios that need a Python process of their own: `python -m process_pool.hosts SCENARIO LOOP [ARG...]`.

Each tells its test what it saw by printing Python literals, or by a named pipe.
"""

import asyncio
import contextlib
import errno
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contract.loops import LOOPS
from contract.support import helper

from aiocmdpool.backends.workers.process_pool import ProcessPool
from aiocmdpool.commands.command import CommandConfig, Stdio

from .support import PATIENCE, outcome, process_exists, sh, until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_KEPT: list[object] = []  # what nobody else refers to


def say(path: str, *words: object) -> None:
    with open(path, "w") as pipe:
        print(*words, file=pipe)


async def busy(ready: str, grace: float = 60) -> ProcessPool:
    """A pool with two workers and commands of every kind in them. Says the pids of the workers; programs say theirs."""
    pool = ProcessPool(2)
    commands = [
        helper("sleep_after_ready", ready),
        helper("ignore_sigterm", ready, grace=grace),
        helper("double_fork", ready, "stay", "session"),
        helper("grandchildren", ready, "stubborn", grace=grace),
    ]
    _KEPT.extend([asyncio.ensure_future(outcome(pool.execute(command))) for command in commands])
    await until(lambda: len(pool._workers) == 2 and all(worker.ready for worker in pool._workers))
    for pid in pool.statistics().pids:
        say(ready, pid)
    return pool


async def ends_normally(ready: str, go: str) -> None:
    """Without closing the pool. `asyncio.run` cancels what runs."""
    pool = ProcessPool(2)
    _KEPT.append(pool)
    task = asyncio.ensure_future(pool.execute(helper("sleep_after_ready", ready)))
    _KEPT.append(task)
    await until(lambda: len(pool._workers) == 2 and all(worker.ready for worker in pool._workers))
    for pid in pool.statistics().pids:
        say(ready, pid)
    await asyncio.to_thread(read, go)


async def raises(ready: str, go: str) -> None:
    """`asyncio.run` then cancels what runs, which has its grace."""
    await busy(ready, grace=0.2)
    await asyncio.to_thread(read, go)
    raise ZeroDivisionError("as the test wants")


async def exits_at_once(ready: str, go: str) -> None:
    await busy(ready)
    await asyncio.to_thread(read, go)
    os._exit(7)


async def is_killed(ready: str, go: str) -> None:
    await busy(ready)
    await asyncio.to_thread(read, go)
    os.kill(os.getpid(), signal.SIGKILL)


async def is_killed_and_has_a_fork(ready: str, go: str) -> None:
    """The fork holds every descriptor of the host open, and lives on."""
    await busy(ready)
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    await is_killed_now(go)


async def is_killed_now(go: str) -> None:
    await asyncio.to_thread(read, go)
    os.kill(os.getpid(), signal.SIGKILL)


async def is_blocked_and_killed(ready: str, go: str) -> None:
    """Its loop does not turn when it happens."""
    await busy(ready)
    read(go)
    os.kill(os.getpid(), signal.SIGKILL)


def read(path: str) -> None:
    with open(path) as pipe:
        pipe.readline()


async def forks() -> None:
    """The pool is used in a forked child, by a loop of its own, and in the parent afterwards."""
    async with ProcessPool(1) as pool:
        await pool.execute(CommandConfig("true"))
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            asyncio._set_running_loop(None)
            asyncio.events._set_running_loop(None)
            with contextlib.suppress(BaseException):
                error = asyncio.new_event_loop().run_until_complete(outcome(pool.execute(CommandConfig("true"))))
                os.write(write_end, f"{type(error).__name__}: {error}".encode())
            os._exit(0)
        os.close(write_end)
        await asyncio.to_thread(os.waitpid, pid, 0)
        print(repr(os.read(read_end, 1000).decode()))
        print(repr((await pool.execute(CommandConfig("echo", ["fine"]))).text()))


def forks_with_its_loop(loop: str) -> None:
    """The loop of the parent goes on in the forked child: what is registered with it belongs to the parent."""
    running = LOOPS[loop]()
    pool = ProcessPool(1)
    running.run_until_complete(pool.execute(CommandConfig("true")))
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            error = running.run_until_complete(outcome(pool.execute(CommandConfig("true"))))
            os.write(write_end, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(write_end)
    os.waitpid(pid, 0)
    print(repr(os.read(read_end, 1000).decode()))
    print(repr(running.run_until_complete(pool.execute(CommandConfig("echo", ["fine"]))).text()))
    running.run_until_complete(pool.aclose())
    running.close()


def uses_two_loops(loop: str) -> None:
    """One after the other, with the same pool."""
    pool = ProcessPool(1)
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(pool.execute(CommandConfig("true")))
        with asyncio.Runner(loop_factory=LOOPS[loop]) as other:
            error = other.run(outcome(pool.execute(CommandConfig("true"))))
            print(repr(f"{type(error).__name__}: {error}"))
            error = other.run(outcome(pool.start()))
            print(repr(f"{type(error).__name__}: {error}"))
            error = other.run(outcome(pool.aclose()))
            print(repr(f"{type(error).__name__}: {error}"))
        print(repr(runner.run(pool.execute(CommandConfig("echo", ["fine"]))).text()))
        runner.run(pool.aclose())


def outlives_its_loop(loop: str) -> None:
    """The pool is closed only when the loop it was used on is no more."""
    pool = ProcessPool(2)
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(pool.execute(CommandConfig("true")))
    pids = pool.statistics().pids
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(asyncio.wait_for(pool.aclose(), PATIENCE))
        print([process_exists(pid) for pid in pids])


async def inherits() -> None:
    everything = {"stdin": Stdio.INHERIT, "stdout": Stdio.INHERIT, "stderr": Stdio.INHERIT}
    async with ProcessPool(1) as pool:
        result = await pool.execute(sh("cat; echo; echo on the stderr of the host >&2", **everything))
    print((result.returncode, result.stdout, result.stderr))


async def ignores_sigchld() -> None:
    """The kernel reaps the workers then."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    unseen: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(repr(context)))
    async with ProcessPool(1) as pool:
        print((await pool.execute(sh("exit 7"))).returncode)
        print(pool.statistics().lost)
        running = asyncio.ensure_future(outcome(pool.execute(CommandConfig("sleep", ["60"]))))
        await until(lambda: any(entry.started_pid for entry in pool._workers[0]._pending.values()))
        os.kill(pool.statistics().pids[0], signal.SIGKILL)
        print(repr(type(await running).__name__))
        print((await pool.execute(sh("exit 7"))).returncode)
    print(unseen)


async def may_write_no_large_files() -> None:
    """Large output is in the memory of the worker then, until it has been handed over."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    async with ProcessPool(1) as pool:
        for _ in range(8):
            zeros = CommandConfig("head", ["-c", "20000000", "/dev/zero"], umask=0o22, timeout=PATIENCE)
            print(len((await pool.execute(zeros)).stdout))
        status = Path(f"/proc/{pool.statistics().pids[0]}/status").read_text()
        print(int(status.partition("VmRSS:")[2].split()[0]) < 100_000)  # KiB


async def has_no_pidfd() -> None:
    """Threads tell of the ends of workers."""
    if hasattr(os, "pidfd_open"):
        del os.pidfd_open
    async with ProcessPool(2, recycle_after=7) as pool:
        ends = await asyncio.gather(*(pool.execute(CommandConfig("echo", [str(n)])) for n in range(100)))
        print([int(end.stdout) for end in ends] == list(range(100)))
        await until(lambda: pool._workers[0].ready)
        os.kill(pool.statistics().pids[0], signal.SIGKILL)
        await until(lambda: pool.statistics().lost == 1)
        print((await pool.execute(sh("exit 7"))).returncode)
        print(pool.statistics().lost)


async def cannot_ask_for_its_scheduling_policy() -> None:
    """As with musl; what can be asked for is still looked at."""

    def refuse(pid: int) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    os.sched_getscheduler = refuse
    async with ProcessPool(1) as pool:
        print((await pool.execute(sh("exit 7"))).returncode)
        await until(lambda: pool._workers[0].ready)
        [worker] = pool.statistics().pids
        resource.prlimit(worker, resource.RLIMIT_CPU, (1000, 1000))
        print(bool(pool._workers[0]._heartbeat.unfit()))
        os.umask(0o027)
        print(oct(int((await pool.execute(sh("umask"))).text(), 8)))
        print(worker in pool.statistics().pids)


def main() -> None:
    # A shell has its background jobs ignore SIGINT, and so would this process if the tests run in one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    name, loop, *args = sys.argv[1:]
    scenario: Callable[..., Any] = globals()[name]
    if not asyncio.iscoroutinefunction(scenario):
        scenario(loop, *args)
        return
    running: Coroutine[Any, Any, None] = scenario(*args)
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(running)


if __name__ == "__main__":
    main()
