"""What /proc says of a process: its CPU time, its context switches, its memory, its descriptors.

Where there is no /proc, or no right to look, the figure is 0 or empty.
"""

import os
import pathlib


def children(pid: int | None = None) -> list[int]:
    """The children of a process, of this one by default; zombies among them."""
    found: list[int] = []
    for file in pathlib.Path(f"/proc/{pid or os.getpid()}/task").glob("*/children"):
        try:
            found += map(int, file.read_text().split())
        except OSError:  # a thread that has just ended
            continue
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time of a process with one thread, user and system, without its children; to the nanosecond (schedstat)."""
    try:
        return int(_read(pid, "schedstat").split()[0]) / 1e9
    except (OSError, IndexError):
        return 0.0


def context_switches(pid: int) -> int:
    """How often the main thread of a process has gone to sleep or been put aside."""
    return _status(pid, "voluntary_ctxt_switches") + _status(pid, "nonvoluntary_ctxt_switches")


def resident_bytes(pid: int) -> int:
    """Resident memory, shared libraries included."""
    return _status(pid, "VmRSS") * 1024


def peak_resident_bytes(pid: int) -> int:
    """The most that was ever resident."""
    return _status(pid, "VmHWM") * 1024


def descriptors(pid: int) -> int:
    """How many descriptors are open."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def _status(pid: int, name: str) -> int:
    try:
        for line in _read(pid, "status").splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0])
    except OSError:
        pass
    return 0


def _read(pid: int, name: str) -> str:
    return pathlib.Path(f"/proc/{pid}/{name}").read_text()


def meminfo(name: str) -> int:
    """A line of /proc/meminfo, in bytes; 0 where there is none."""
    try:
        text = pathlib.Path("/proc/meminfo").read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    return 0
