"""On TERM say `asked` to the pipe at argv[1], wait for a line from argv[2], print `bye` and exit with 0.

Says the own pid to argv[1] when ready.
"""

import os
import signal
import sys
import time


def say(word: object) -> None:
    with open(sys.argv[1], "w") as ready:
        print(word, file=ready)


def leave(*_: object) -> None:
    say("asked")
    with open(sys.argv[2]) as release:
        release.readline()
    os.write(1, b"bye")
    os._exit(0)


signal.signal(signal.SIGTERM, leave)
say(os.getpid())
time.sleep(60)
