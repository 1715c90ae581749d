"""Write the digits of `12344321` one by one, alternately to stdout and stderr."""

import os

for index, digit in enumerate(b"12344321"):
    os.write(1 + index % 2, bytes([digit]))
