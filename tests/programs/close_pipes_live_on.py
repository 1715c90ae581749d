"""Print `bye`, close all three streams, say the own pid to argv[1], wait for a line from argv[2], exit with 9."""

import os
import sys

os.write(1, b"bye")
for stream in (0, 1, 2):
    os.close(stream)
with open(sys.argv[1], "w") as ready:
    print(os.getpid(), file=ready)
with open(sys.argv[2]) as release:
    release.readline()
os._exit(9)
