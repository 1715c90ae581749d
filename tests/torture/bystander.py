"""A program that does nothing but sleep, and tells how long it was kept waiting: `python -m torture.bystander`.

What it shows is what the machine does to everybody while it is full of hostile programs, workers included.
"""

import os
import signal
import time

NAP = 0.01  # seconds


def main() -> None:
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    longest, before = 0.0, time.monotonic()
    while not asked:
        time.sleep(NAP)
        now = time.monotonic()
        longest, before = max(longest, now - before - NAP), now
    os.write(1, b"%f\n" % longest)


if __name__ == "__main__":
    main()
