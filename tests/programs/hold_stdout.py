"""Print `done` and exit with argv[2], leaving a process behind that holds the output pipes and sleeps.

The process left behind says its pid to the pipe at argv[1]. With argv[3] `quiet` it lets go of the pipes, with
`stubborn` it ignores TERM.
"""

import os
import signal
import sys
import time

path, status, *how = sys.argv[1:]
alive, spoken = os.pipe()
if os.fork():
    os.close(spoken)
    os.read(alive, 1)  # the end of the pipe: the other has said its pid
    os.write(1, b"done")
    os._exit(int(status))
if "quiet" in how:
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
if "stubborn" in how:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(path, "w") as ready:
    print(os.getpid(), file=ready)
os.close(spoken)
time.sleep(60)
