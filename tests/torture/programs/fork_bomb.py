"""Forks as fast as it can, each child in a session of its own, until nothing more is to be had.

Bounded three times: by RLIMIT_NPROC, which root is exempt from (getrlimit(2)), so as root it becomes somebody else,
and each bomb somebody of its own; by a number of forks; by time.
"""

import os
import resource
import sys
import time

PROCESSES = 200
FORKS = 20_000  # fits into a pipe
SECONDS = 20.0

ready, mark, ending = sys.argv[1:]
end = time.monotonic() + SECONDS
told = os.open(ready, os.O_WRONLY)
tokens, spent = os.pipe()
os.set_blocking(tokens, False)
os.write(spent, bytes(FORKS))
if os.geteuid() == 0:
    nobody = 50_000 + int(mark) % 10_000
    os.setgroups([])
    os.setgid(nobody)
    os.setuid(nobody)
resource.setrlimit(resource.RLIMIT_NPROC, (PROCESSES, PROCESSES))

leader, forks = os.getpid(), 0
while time.monotonic() < end:
    try:
        os.read(tokens, 1)
        if os.fork() == 0:
            os.setsid()
        elif os.getpid() == leader:
            forks += 1
    except OSError:  # no room for a process now, or no token
        forks += 1
        time.sleep(0.01)
    if os.getpid() == leader and forks >= 3 and told >= 0:
        os.write(told, f"{mark}\n".encode())
        told = -1
        if ending == "leave":
            os._exit(0)
