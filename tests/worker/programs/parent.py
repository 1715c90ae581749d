"""A host in a process of its own: `python parent.py REQUESTS_READ REQUESTS_WRITE READY COUNT ARG...`.

Starts a worker that reads its requests from the given pipe (a new one for -1 -1), has it run the command ARG... so many
times, says the pids of the worker and of the commands to READY, and reads no replies any more.
"""

import os
import sys
import time

from worker.fake_parent import FakeParent

read_end, write_end, ready, count, *argv = sys.argv[1:]
parent = FakeParent(requests=os.pipe() if read_end == "-1" else (int(read_end), int(write_end)))
parent.hello()
for number in range(int(count)):
    parent.start(number, *argv)
pids = [parent.started(number) for number in range(int(count))]
with open(ready, "w") as pipe:
    print(parent.pid, *pids, file=pipe)
time.sleep(60)
