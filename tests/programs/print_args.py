"""Print the arguments as they were received, each ended by a NUL."""

import os
import sys

for argument in sys.argv[1:]:
    os.write(1, os.fsencode(argument) + b"\0")
