"""On TERM print `goodbye` and exit with 0; until then sleep. Says the own pid to the pipe at argv[1]."""

import os
import signal
import sys
import time


def leave(*_: object) -> None:
    os.write(1, b"goodbye")
    os._exit(0)


signal.signal(signal.SIGTERM, leave)
with open(sys.argv[1], "w") as ready:
    print(os.getpid(), file=ready)
time.sleep(60)
