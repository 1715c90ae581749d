"""What a host must not have left when everything is closed: children, descriptors, threads, files."""

import gc
import os
import tempfile
import threading
import time
from collections.abc import Callable

PATIENCE = 2.0  # seconds for what is legitimately finishing


def possessions() -> dict[str, set[str]]:
    """What this process holds at one moment, as it is shown to people."""
    return {
        "children": _children(),
        "descriptors": _descriptors(),
        "threads": {f"{thread.name} ({thread.ident})" for thread in threading.enumerate()},
        "files": set(os.listdir(tempfile.gettempdir())),
    }


def left_since(before: dict[str, set[str]]) -> list[str]:
    """What is there now and was not there before; what is only just going is given its time."""
    return patiently(lambda: [f"{k}: {sorted(now - before[k])}" for k, now in possessions().items() if now - before[k]])


def patiently(complaints: Callable[[], list[str]]) -> list[str]:
    """Ask until there are no complaints, or until nothing excuses them any more."""
    deadline = time.monotonic() + PATIENCE
    while (found := complaints()) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    return found


def _children() -> set[str]:
    """A child, living or a zombie: there must be none that this process has not waited for."""
    try:
        pid, _ = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return set()
    return {f"a zombie, {pid}" if pid else "a living one"}


def _descriptors() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{name} -> {os.readlink(f'/proc/self/fd/{name}')}")
        except OSError:
            continue  # that of the listing itself
    return found
