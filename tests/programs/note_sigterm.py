"""Say the own pid to the pipe at argv[1], say `TERM` there at each TERM, and sleep on until killed."""

import os
import signal
import sys
import time


def say(word: object) -> None:
    with open(sys.argv[1], "w") as ready:
        print(word, file=ready)


signal.signal(signal.SIGTERM, lambda *_: say("TERM"))
say(os.getpid())
time.sleep(60)
