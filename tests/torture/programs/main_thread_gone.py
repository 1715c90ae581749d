"""The main thread has exited, others live on: to /proc it looks like a zombie.

With argv[4] `escaped` that is an orphan in a session of its own, otherwise the program itself.
"""

import _thread
import ctypes
import os
import sys
import time

ready, mark, ending, how = sys.argv[1:]


def state() -> str:
    with open(f"/proc/{os.getpid()}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]  # proc_pid_stat(5)


def live_on() -> None:
    while state() != "Z":  # not before the main thread is gone
        time.sleep(0.001)
    with open(ready, "w") as pipe:
        print(mark, file=pipe)
    os.close(told)
    time.sleep(600)


heard, told = os.pipe()
if how == "escaped" and os.fork():
    os.close(told)
    os.read(heard, 1)  # until it has escaped
    if ending == "leave":
        os._exit(0)
    time.sleep(600)
if how == "escaped":
    os.setsid()
    if os.fork():
        os._exit(0)
_thread.start_new_thread(live_on, ())
ctypes.CDLL(None).pthread_exit(None)
