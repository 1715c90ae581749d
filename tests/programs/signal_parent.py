"""Send the parent, or the process argv[1], every signal that can be blocked, and say how many were sent."""

import os
import signal
import sys

target = int(sys.argv[1]) if sys.argv[1:] else os.getppid()
last = 64 if sys.platform == "linux" else signal.NSIG - 1  # those that the C library keeps for itself as well
numbers = set(range(1, last + 1)) - {signal.SIGKILL, signal.SIGSTOP}
for number in numbers:
    os.kill(target, number)
print(len(numbers))
