"""Write to stdout (to stderr with argv[2] `stderr`) without end; after 1 MiB say the own pid to argv[1]."""

import os
import sys

path, *stream = sys.argv[1:]
descriptor = 2 if "stderr" in stream else 1
block = b"x" * 65536
for _ in range(16):
    written = 0
    while written < len(block):
        written += os.write(descriptor, block[written:])
with open(path, "w") as ready:
    print(os.getpid(), file=ready)
while True:
    os.write(descriptor, block)
