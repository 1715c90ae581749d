"""Leave a process behind whose main thread has ended, so that it looks like a zombie, while another thread lives on.

It has lost its parent, leads a session of its own, and says its pid to the pipe at argv[1]. Then the program says its
own, and sleeps or, with argv[2] `leave`, exits with 0.
"""

import _thread
import ctypes
import os
import sys
import time

path, ending = sys.argv[1:]


def say_pid() -> None:
    with open(path, "w") as ready:
        print(os.getpid(), file=ready)


def state() -> str:
    with open(f"/proc/{os.getpid()}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]  # proc_pid_stat(5)


def live_on() -> None:
    while state() != "Z":
        time.sleep(0.001)
    say_pid()
    os.close(spoken)
    time.sleep(60)
    os._exit(0)


alive, spoken = os.pipe()
child = os.fork()
if child:
    os.waitpid(child, 0)
    os.close(spoken)
    os.read(alive, 1)
    say_pid()
    if ending == "leave":
        os._exit(0)
    time.sleep(60)
os.setsid()
if os.fork():
    os._exit(0)
os.close(alive)
_thread.start_new_thread(live_on, ())
ctypes.CDLL(None).pthread_exit(None)
