"""Write argv[2] bytes to the file argv[1], with SIGXFSZ at its default."""

import resource
import signal
import sys

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
with open(sys.argv[1], "wb") as file:
    file.write(bytes(int(sys.argv[2])))
