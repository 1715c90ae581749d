"""The resources of a worker: its resource limits and its CPUs, which other programs of its user can take away.

prlimit(2) and sched_setaffinity(2) only require the same user. Commands inherit what their worker has lost.
"""

import errno
import os
from typing import NamedTuple

SHORTAGES = frozenset((errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM))
"""Errors of a failed start that may be caused by the worker alone."""

SYMPTOMS = SHORTAGES | {errno.EPERM, errno.EINVAL, errno.EFBIG, errno.E2BIG}
"""Errors of a failed start that a lowered limit can cause (setrlimit(2), execve(2))."""

STARTS_IN_A_ROW = 3  # failed for lack of a resource, after which a worker counts as unfit


class Fitness(NamedTuple):
    """The resource limits of a process by name, soft and hard, and the CPUs that it may use."""

    limits: dict[str, tuple[float, float]]
    cpus: frozenset[int]


def fitness_of(pid: int = 0) -> Fitness | None:
    """Return the fitness of the process `pid`, 0 for this one; `None` if it cannot be read.

    From /proc, because prlimit(2) on another process takes a privilege.
    """
    try:
        with open(f"/proc/{pid or 'self'}/limits", "rb", buffering=0) as file:
            lines = file.readall().decode().splitlines()
        cpus = frozenset(os.sched_getaffinity(pid))
    except (OSError, AttributeError):  # gone, hidden (`hidepid`), or not on Linux
        return None
    return Fitness({line[:26].strip(): _limits_in(line) for line in lines[1:]}, cpus)


def _limits_in(line: str) -> tuple[float, float]:
    soft, hard = line[26:].split()[:2]
    return float(soft.replace("unlimited", "inf")), float(hard.replace("unlimited", "inf"))


def what_was_taken(given: Fitness, left: Fitness) -> str:
    """Return a text about the first resource that `left` lacks compared to `given`; empty if there is none."""
    for name, limits in given.limits.items():
        now = left.limits.get(name, limits)
        if now[0] < limits[0] or now[1] < limits[1]:
            return f"{name} was lowered from {limits[0]:g} ({limits[1]:g}) to {now[0]:g} ({now[1]:g})"
    if not given.cpus <= left.cpus:
        return f"of its {len(given.cpus)} CPUs it may use {len(given.cpus & left.cpus)} now"
    return ""
