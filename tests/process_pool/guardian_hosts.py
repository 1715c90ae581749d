"""Hosts that are killed with their workers: `python -m process_pool.guardian_hosts SCENARIO LOOP READY [ARG...]`.

Each says to a named pipe who its workers are, then its guardian; its programs say their own pids there.
"""

import asyncio
import os
import subprocess
import sys
import threading
import time
from typing import Any

from contract.loops import LOOPS
from contract.support import helper

from aiocmdpool.backends.workers.process_pool import ProcessPool
from aiocmdpool.standalone.kernel import cgroup
from aiocmdpool.standalone.kernel.processes import COOKIE

from .ending_hosts import DAEMON
from .hosts import say
from .support import in_background, sh, until

_KEPT: list[object] = []  # what nobody else refers to

FORGER = f"""
trap '' TERM
mark=${COOKIE.decode()}
{COOKIE.decode()}="${{mark%:*}}+${{mark##*:}}" setsid sh -c 'trap "" TERM; echo $$ >"$1"; sleep 60 & wait' sh "$1" &
echo $$ >"$1"
wait
"""  # its child says that a command which may leave it behind has started it


async def busy(ready: str, workers: int = 2) -> ProcessPool:
    """A pool that runs what does not go by itself: nine processes that say their pids."""
    pool = ProcessPool(workers)
    commands = [
        helper("ignore_sigterm", ready),
        helper("double_fork", ready, "stay", "session"),
        helper("grandchildren", ready, "stubborn"),
        sh(FORGER, ready),
    ]
    _KEPT.extend(in_background(pool, *commands))
    await until(lambda: all(worker.ready for worker in pool._workers))
    await tell(pool, ready)
    return pool


async def tell(pool: ProcessPool, ready: str) -> None:
    await until(lambda: pool._crew._guardian is not None and pool._crew._guardian.pid)
    say(ready, "workers", *pool.statistics().pids)
    say(ready, "guardian", pool._crew._guardian.pid)


async def works(ready: str) -> None:
    await busy(ready)
    await asyncio.Event().wait()


async def works_without_control_groups(ready: str) -> None:
    cgroup.own_directory = lambda: ""
    await works(ready)


async def works_in_a_thread(ready: str) -> None:
    """Another thread has the loop."""
    threading.Thread(target=lambda: asyncio.run(works(ready)), daemon=True).start()
    await asyncio.Event().wait()


async def has_a_fork(ready: str) -> None:
    """Which holds what it has inherited, and lives on."""
    await busy(ready)
    if os.fork() == 0:
        say(ready, "fork", os.getpid())
        time.sleep(60)
        os._exit(0)
    await asyncio.Event().wait()


async def has_a_child_that_holds_the_pipe(ready: str) -> None:
    """As a program does that hangs in its `exec`."""
    pool = await busy(ready)
    child = subprocess.Popen(["sleep", "60"], pass_fds=[pool._crew._guardian._handles.notes])
    say(ready, "fork", child.pid)
    await asyncio.Event().wait()


async def gets_another_guardian(ready: str, go: str) -> None:
    pool = await busy(ready, workers=1)
    first = pool._crew._guardian.pid
    with open(go, "w") as wanted:  # the test may kill it
        print("go", file=wanted)
    await until(lambda: pool._crew._guardian.pid not in (0, first))
    await tell(pool, ready)
    await asyncio.Event().wait()


async def leaves_a_daemon(ready: str, release: str) -> None:
    pool = ProcessPool(1)
    _KEPT.append(pool)
    await pool.execute(sh(DAEMON, ready, release, detach=True))
    await tell(pool, ready)
    _KEPT.extend(in_background(pool, helper("ignore_sigterm", ready)))
    await asyncio.Event().wait()


def main() -> None:
    name, loop, *args = sys.argv[1:]
    scenario: Any = globals()[name]
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(scenario(*args))


if __name__ == "__main__":
    main()
