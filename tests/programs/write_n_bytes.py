"""Write argv[1] bytes of the pattern 0, 1, … 250, 0, … to stdout (argv[2] `stderr`, `both`) and exit at once."""

import os
import sys

count, *where = sys.argv[1:]
data = (bytes(range(251)) * (int(count) // 251 + 1))[: int(count)]
for descriptor in {"stdout": [1], "stderr": [2], "both": [1, 2]}["".join(where) or "stdout"]:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
