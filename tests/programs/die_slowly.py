"""Leave a process behind whose parent is dying: a large one takes its time to give its memory back, and only then
hands its children over.

The process left says its pid to the pipe at argv[1], and then the program its own, before it exits with 0. With argv[2]
`session` the one left leads a session of its own.
"""

import mmap
import os
import signal
import sys
import time

SIZE = 256 * 1024 * 1024  # bytes
PAGE = mmap.PAGESIZE

path, *how = sys.argv[1:]
ready, said = os.pipe()
parent = os.fork()
if parent == 0:
    if os.fork() == 0:
        if "session" in how:
            os.setsid()
        with open(path, "w") as pipe:
            print(os.getpid(), file=pipe)
        time.sleep(60)
    memory = mmap.mmap(-1, SIZE)
    memory.madvise(mmap.MADV_NOHUGEPAGE)  # many pages, each to be freed
    for place in range(0, SIZE, PAGE):
        memory[place] = 1
    os.write(said, b"\0")
    time.sleep(60)
os.read(ready, 1)
with open(path, "w") as pipe:
    print(os.getpid(), file=pipe)
os.kill(parent, signal.SIGKILL)
os._exit(0)
