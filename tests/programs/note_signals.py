"""Print the name of each signal that can be caught, and say it to the pipe at argv[1]; live on until killed.

Says the own pid there when ready.
"""

import os
import signal
import sys
import time


def say(word: object) -> None:
    with open(sys.argv[1], "w") as ready:
        print(word, file=ready)


def note(number: int, _: object) -> None:
    name = signal.Signals(number).name
    os.write(1, name.encode() + b"\n")
    say(name)


for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, note)
say(os.getpid())
while True:
    time.sleep(60)
