"""Print `last words` and die by signal argv[1]."""

import os
import resource
import signal
import sys

number = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
os.write(1, b"last words")
if number != signal.SIGKILL:
    signal.signal(number, signal.SIG_DFL)
os.kill(os.getpid(), number)
