"""Answer each line on stdin with the same line in upper case, at once."""

import os

while line := os.read(0, 4096):
    os.write(1, line.upper())
