"""Trace the process argv[2] without stopping it, and say to the pipe at argv[1] whether that worked.

Then hold on to it, alive or dead, until this process is killed; with argv[3] `let go`, let go a moment after its death.
"""

import ctypes
import sys
import time

PTRACE_SEIZE = 0x4206

path, pid, *how = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
refused = libc.ptrace(PTRACE_SEIZE, int(pid), None, None) != 0
with open(path, "w") as ready:
    print("refused" if refused else "traced", file=ready)
if refused:
    sys.exit(1)
if how == ["let go"]:
    while True:
        with open(f"/proc/{pid}/stat") as stat:
            if stat.read().rpartition(")")[2].split()[0] == "Z":
                break
        time.sleep(0.001)
    time.sleep(0.05)  # the parent has seen the death by now
    sys.exit(0)
time.sleep(30)
