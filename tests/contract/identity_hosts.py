"""Hosts that change what they are: `python -m contract.identity_hosts SCENARIO BACKEND LOOP [ARG]`.

Each prints Python literals: what programs of the backend saw, and what a child of the host itself does.
"""

import asyncio
import ctypes
import math
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from aiocmdpool import ResourceLimits
from aiocmdpool.system import identity

from .backends import BACKENDS
from .loops import LOOPS
from .support import outcome, sh

LOOK = (
    "umask; id; grep Cpus_allowed_list /proc/self/status; ulimit -c; nice; "
    "grep -E '^(CapPrm|CapBnd|NoNew)' /proc/self/status; cut -d ' ' -f 41 /proc/self/stat; "
    "for each in net mnt uts ipc user; do readlink /proc/self/ns/$each; done"
)
NOBODY = 54321  # has nothing else on this machine


def become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def drop_root() -> None:
    """Become somebody else for good, who may still read everything: the interpreter may be at home with root."""
    libc = ctypes.CDLL(None, use_errno=True)
    keep_capabilities, raise_ambient, capset = 8, (47, 2), {"x86_64": 126, "aarch64": 91}[platform.machine()]
    dac_read_search = 2
    libc.prctl(keep_capabilities, 1, 0, 0, 0)
    become_nobody()
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    only = 1 << dac_read_search
    if libc.syscall(capset, header, (ctypes.c_uint32 * 6)(only, only, only)) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    libc.prctl(*raise_ambient, dac_read_search, 0, 0)


def forbid_new_privileges() -> None:
    no_new_privs = 38
    ctypes.CDLL(None).prctl(no_new_privs, 1, 0, 0, 0)


def drop_from_bounding_set() -> None:
    capbset_drop, net_raw = 24, 13
    ctypes.CDLL(None).prctl(capbset_drop, net_raw, 0, 0, 0)


def leave(*namespaces: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for each in namespaces:
        if libc.unshare(each) != 0:
            raise OSError(ctypes.get_errno(), "unshare")


CHANGES: dict[str, Callable[[], object]] = {
    "umask": lambda: os.umask(0o027),
    "cpus": lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
    "limits": lambda: resource.setrlimit(resource.RLIMIT_CORE, (4096, resource.getrlimit(resource.RLIMIT_CORE)[1])),
    "niceness": lambda: os.nice(3),
    "privileges": forbid_new_privileges,
    "bounding": drop_from_bounding_set,
    "scheduler": lambda: os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)),
    "network": lambda: leave(0x40000000),
    "mounts": lambda: leave(0x00020000),
    "names": lambda: leave(0x04000000, 0x08000000),  # UTS and IPC
    "groups": lambda: os.setgroups([NOBODY]),
    "group": lambda: os.setgid(NOBODY),
    "user": become_nobody,
    "root": drop_root,
}


async def changes(make: Callable[[], Any], *names: str) -> None:
    """Change some things; what programs see before, after, and what they should see."""
    identity.WHOLE_EVERY = math.inf  # no need to wait for the next look at everything
    async with make() as backend:
        print(repr((await backend.execute(sh(LOOK))).text()))
        for name in names:
            CHANGES[name]()
        for end in await asyncio.gather(*(backend.execute(sh(LOOK)) for _ in range(4))):
            print(repr(end.text()))
    print(repr(subprocess.run(["sh", "-c", LOOK], check=True, stdout=subprocess.PIPE, text=True).stdout))


async def changes_while_one_runs(make: Callable[[], Any], ready: str, release: str, *names: str) -> None:
    """The same, under load: a command has been running all the time."""
    with open(ready) as started, open(release, "w") as go:
        async with make() as backend:
            held = asyncio.ensure_future(backend.execute(sh('echo up >"$1"; read x <"$2"', ready, release)))
            await asyncio.to_thread(started.readline)
            print(repr((await backend.execute(sh(LOOK))).text()))
            for name in names:
                CHANGES[name]()
            for _ in range(2):
                print(repr((await backend.execute(sh(LOOK))).text()))
            print("go", file=go, flush=True)
            await held
    print(repr(subprocess.run(["sh", "-c", LOOK], check=True, stdout=subprocess.PIPE, text=True).stdout))


async def changes_each_turn(make: Callable[[], Any], *args: str) -> None:
    """What may be looked at once in a while only, is not."""
    identity.WHOLE_EVERY = math.inf
    await changes_while_one_runs(make, *args)


async def changes_at_last(make: Callable[[], Any], *args: str) -> None:
    """Once in a while is now."""
    identity.WHOLE_EVERY = 0.0
    await changes_while_one_runs(make, *args)


async def becomes_nobody(make: Callable[[], Any]) -> None:
    """Become a user who may not find the interpreter, if it is at home with root; what all kinds of commands see."""
    script = "id -u; echo $LD_LIBRARY_PATH; ls /proc/self/fd; ulimit -f; umask"
    async with make() as backend:
        plain, prepared = sh(script), sh(script, limits=ResourceLimits(file_size=2048 * 1024), umask=0o027)
        before = [(await backend.execute(command)).text() for command in (plain, prepared)]
        become_nobody()
        for command in (plain, prepared):
            print(repr((await backend.execute(command)).text()))
        async with backend.open(sh("test -t 1 && id -u"), pty=True) as process:
            print(repr(await process.stdout.read()))
        large = await backend.execute(sh("head -c 5000000 /dev/zero"))
        print(len(large.stdout))
        print(repr((await backend.execute(sh("ls -d /proc/[0-9]*/fd/*/ 2>/dev/null"))).text()))
        held = [path for name in os.listdir("/proc/self/fd") if os.path.isdir(path := f"/proc/self/fd/{name}")]
        print([path for path in held if not os.path.samefile(path, f"{path}/..")])
    print(before)


async def locks_itself_in(make: Callable[[], Any], room: str) -> None:
    """Nothing is in there, so no command can run; it must not run out here either."""
    async with make() as backend:
        await backend.execute(sh("true"))
        os.chroot(room)
        error = await outcome(backend.execute(sh("echo I am out")))
        print(repr(type(error).__name__))
        print(repr(str(error)))


async def drops_root_while_commands_run(make: Callable[[], Any], ready: str, release: str) -> None:
    """What runs as root goes on, and cannot be signalled from here any more; nor can the worker that it runs in."""
    with open(ready) as started, open(release, "w") as go:
        async with make() as backend:
            held = asyncio.ensure_future(backend.execute(sh('echo $PPID >"$1"; read x <"$2"; id -u', ready, release)))
            worker = int(await asyncio.to_thread(started.readline))
            stubborn = sh("trap '' TERM; echo $$ >\"$1\"; while :; do sleep 60; done", ready, grace=0.1)
            ended = asyncio.ensure_future(outcome(backend.execute(stubborn)))
            program = int(await asyncio.to_thread(started.readline))
            drop_root()
            print(int((await backend.execute(sh("id -u"))).stdout))
            print("go", file=go, flush=True)
            print(int((await held).stdout))
        print(repr(type(await ended).__name__))
        print([os.path.exists(f"/proc/{pid}") for pid in (worker, program)])


def main() -> None:
    name, backend, loop, *args = sys.argv[1:]
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(globals()[name](BACKENDS[backend], *args))


if __name__ == "__main__":
    main()
