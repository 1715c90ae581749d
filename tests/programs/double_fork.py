"""Make a grandchild whose parent is gone, then sleep or, with argv[2] `leave`, exit with 0.

The grandchild says its pid to the pipe at argv[1], and then the program its own. With argv[3] `session` the
grandchild leads a session of its own.
"""

import os
import sys
import time

path, ending, *how = sys.argv[1:]


def say_pid() -> None:
    with open(path, "w") as ready:
        print(os.getpid(), file=ready)


child = os.fork()
if child:
    os.waitpid(child, 0)
    say_pid()
    if ending == "leave":
        os._exit(0)
else:
    if "session" in how:
        os.setsid()
    alive, spoken = os.pipe()
    if os.fork():
        os.close(spoken)
        os.read(alive, 1)
        os._exit(0)
    say_pid()
    os.close(spoken)
time.sleep(60)
