"""Ignore TERM, say the own pid to the pipe at argv[1], print `stubborn`, and sleep until killed."""

import os
import signal
import sys
import time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, b"stubborn")
with open(sys.argv[1], "w") as ready:
    print(os.getpid(), file=ready)
time.sleep(60)
