"""A process without privileges and the worker that it starts: `python look_into.py`; what it can see of whom.

Prints a Python literal: for the worker, and for a command of it, what could be opened or done.
"""

import ctypes
import os

from contract.hosts import drop_privileges
from worker.fake_parent import FakeParent

PTRACE_SEIZE, PTRACE_DETACH = 0x4206, 17
libc = ctypes.CDLL(None)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def can_open(path: str, flags: int = os.O_RDONLY) -> bool:
    try:
        os.close(os.open(path, flags))
    except OSError:
        return False
    return True


def can_trace(pid: int) -> bool:
    """In a process of its own: as long as one is attached, the worker is not what it was."""
    tracer = os.fork()
    if tracer == 0:
        os._exit(libc.ptrace(PTRACE_SEIZE, pid, None, None) == 0)
    return os.waitpid(tracer, 0)[1] != 0


def possible(pid: int) -> set[str]:
    folder = f"/proc/{pid}"
    found = {name for name in ("environ", "maps") if can_open(f"{folder}/{name}")}
    found |= {"mem"} if can_open(f"{folder}/mem", os.O_RDWR) else set()
    found |= {"fd"} if can_open(f"{folder}/fd/0") else set()
    found |= {"stat"} if can_open(f"{folder}/stat") else set()
    return found | ({"ptrace"} if can_trace(pid) else set())


drop_privileges()
with FakeParent() as parent:
    parent.hello()
    parent.start(1, "sleep", "60")
    parent.start(2, "sleep", "60", settings=[b"umask=18"])
    pids = [parent.pid, parent.started(1), parent.started(2)]
    print([sorted(possible(pid)) for pid in pids])
    parent.cancel(1)
    parent.cancel(2)
    parent.start(3, "sh", "-c", "sleep 60 & echo $!")  # it sees what is left as before
    left = parent.result(3)
    print((len(left.leaked), parent.result(1).reason == parent.result(2).reason))
