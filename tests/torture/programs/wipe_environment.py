"""A child in a session of its own without an environment: an empty one given to `exec`, or overwritten in place."""

import ctypes
import os
import sys
import time

ENV_START, ENV_END = 50, 51  # fields of proc_pid_stat(5), counted from 1

ready, mark, ending, how = sys.argv[1:]


def overwrite() -> None:
    """Fill with zeros what /proc/PID/environ shows."""
    with open("/proc/self/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    start, end = (int(fields[number - 3]) for number in (ENV_START, ENV_END))
    ctypes.memset(start, 0, end - start)


wiped, told = os.pipe()  # closed when it is done, by the exec or by hand
if os.fork() == 0:
    os.setsid()
    if how == "exec":
        os.execve("/bin/sleep", ["sleep", f"600.{mark}"], {})
    overwrite()
    os.close(told)
    time.sleep(600)
os.close(told)
os.read(wiped, 1)
with open(ready, "w") as pipe:
    print(mark, file=pipe)
time.sleep(600)
