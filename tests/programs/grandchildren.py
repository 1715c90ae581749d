"""A tree of four: this program, two children, and a child of the second. Each says its pid to argv[1] and sleeps.

With argv[2] `stubborn` all but the first ignore TERM.
"""

import os
import signal
import sys
import time

path, *how = sys.argv[1:]


def say_pid_and_sleep() -> None:
    with open(path, "w") as ready:
        print(os.getpid(), file=ready)
    time.sleep(60)
    os._exit(0)


def fork_child() -> bool:
    """Whether this is the child."""
    if os.fork():
        return False
    if "stubborn" in how:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return True


if fork_child():
    say_pid_and_sleep()
if fork_child():
    if fork_child():
        say_pid_and_sleep()
    say_pid_and_sleep()
say_pid_and_sleep()
