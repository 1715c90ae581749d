"""Open descriptors until the limit, print how many are open then."""

import os

opened = 3
try:
    while True:
        os.dup(0)
        opened += 1
except OSError as error:
    print(opened, os.strerror(error.errno), sep="\n")
