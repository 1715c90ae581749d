"""Allocate argv[1] bytes, print `allocated`, or exit with 3 where there is not enough memory."""

import os
import sys

try:
    memory = bytearray(int(sys.argv[1]))
except MemoryError:
    os._exit(3)
os.write(1, b"allocated")
