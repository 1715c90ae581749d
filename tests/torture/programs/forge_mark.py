"""Leaves a child in a session of its own whose environment claims, with argv[4], that it is somebody else's.

`unknown`: of a run that does not exist; `neighbour`: of a run beside it; `detached`: of one whose processes are to be
left alone; `huge`: of a run with a number of 5,000 digits; `bytes`: no text at all.
"""

import os
import sys
import time

sys.path.append(os.path.dirname(__file__))
from neighbours import neighbours

NAME = b"AIOCMDPOOL_RUN"

ready, mark, ending, how = sys.argv[1:]
mine = os.environb.get(NAME, b"")
cookie = mine.partition(b":")[0]
unknown = cookie + b":99999999"


def stolen(*, detached: bool) -> bytes:
    """Return the mark of a neighbour; where none can be read, that of a run that does not exist."""
    for pid in neighbours(ready):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                is_detached = b"detached" in file.read()
            with open(f"/proc/{pid}/environ", "rb") as file:
                marks = [line for line in file.read().split(b"\0") if line.startswith(NAME + b"=")]
        except OSError:
            continue
        if marks and is_detached is detached:
            return marks[0].partition(b"=")[2]
    return unknown


if how == "huge":
    forged = cookie + b":" + b"9" * 5000
elif how == "bytes":
    forged = b"\xff\xfe" + cookie + b":\x80\n=7"
elif how == "unknown":
    forged = unknown
else:
    forged = stolen(detached=how == "detached")

executed, told = os.pipe()  # closed by the exec: nothing is told before the forged environment is there
if os.fork() == 0:
    os.close(executed)
    os.setsid()
    os.execve("/bin/sleep", ["sleep", f"600.{mark}"], {**os.environb, NAME: forged})
os.close(told)
os.read(executed, 1)
with open(ready, "w") as pipe:
    print(mark, file=pipe)
if ending == "stay":
    time.sleep(600)
