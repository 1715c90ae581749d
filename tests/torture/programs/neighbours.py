"""How hostile programs find the healthy commands of the same host: by the folder that all of them are given."""

import os


def neighbours(ready: str) -> list[int]:
    """Return the pids of the healthy commands whose host made the named pipe `ready`."""
    folder = os.path.dirname(ready).encode()
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                words = file.read()
        except OSError:
            continue  # gone meanwhile
        if b"neighbour.sh" in words and folder in words:
            found.append(int(entry))
    return found
