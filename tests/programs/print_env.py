"""Print the environment this program was started with, each variable ended by a NUL."""

import os
import pathlib

# Python itself may add LC_CTYPE to os.environ (PEP 538): ask the kernel.
initial = pathlib.Path("/proc/self/environ")
if initial.exists():
    os.write(1, initial.read_bytes())
else:
    os.write(1, b"".join(name + b"=" + value + b"\0" for name, value in os.environb.items()))
