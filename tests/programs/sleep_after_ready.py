"""Print `ready`, say the own pid to the pipe at argv[1], and sleep. Reads nothing."""

import os
import sys
import time

os.write(1, b"ready")
os.write(2, b"so far")
with open(sys.argv[1], "w") as ready:
    print(os.getpid(), file=ready)
time.sleep(60)
