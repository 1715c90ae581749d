"""Leave a chain of processes behind: each forks the next, waits a millisecond, and exits. Then sleep or, with argv[2]
`leave`, exit with 0.

With argv[3] `sessions` each leads a session of its own. The twentieth says its pid to the pipe at argv[1], and then
the program does.
"""

import os
import sys
import time

path, ending, *how = sys.argv[1:]


def say_pid() -> None:
    with open(path, "w") as ready:
        print(os.getpid(), file=ready)


def go_on_for_ever(spoken: int) -> None:
    generation = 0
    while True:
        if os.fork():
            time.sleep(0.001)
            os._exit(0)
        if "sessions" in how:
            os.setsid()
        generation += 1
        if generation == 20:
            say_pid()
            os.close(spoken)


alive, spoken = os.pipe()
if os.fork() == 0:
    os.close(alive)
    go_on_for_ever(spoken)
os.close(spoken)
while os.read(alive, 1):  # the end of the pipe: no generation before the twentieth is left
    pass
say_pid()
if ending == "leave":
    os._exit(0)
time.sleep(60)
