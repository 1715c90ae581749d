"""Write a word to every descriptor there could be, so that whatever was inherited by mistake hears it."""

import os

for descriptor in range(1024):
    try:
        os.write(descriptor, b"stray")
    except OSError:
        continue
