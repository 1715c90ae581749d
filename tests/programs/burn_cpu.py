"""Use argv[1] seconds of CPU time."""

import sys
import time

while time.process_time() < float(sys.argv[1]):
    pass
