"""Resources of a worker that programs of its user can take away: limits, CPUs, and its share from the scheduler.

prlimit(2), sched_setaffinity(2), renice(1), chrt(1) and ionice(1) ask for the same user, no more. What a worker has
lost its commands lose, too: they inherit it.
"""

import errno
import os
from typing import NamedTuple

from aiocmdpool.system.native import has_idle_io, scheduling_policy

SHORTAGES = frozenset((errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM))
"""Errors of a failed start that may be caused by the worker alone."""

SYMPTOMS = SHORTAGES | {errno.EPERM, errno.EINVAL, errno.EFBIG, errno.E2BIG}
"""Errors of a failed start that a lowered limit can cause (setrlimit(2), execve(2))."""

STARTS_IN_A_ROW = 3  # failed for lack of a resource, after which a worker counts as unfit


NICEST = 19  # setpriority(2)


class Fitness(NamedTuple):
    """The resources that one process may use, as read at one moment.

    Attributes:
        limits: Soft and hard limit of each resource, by the name of the resource.
        cpus: Numbers of the CPUs that the process may use.
        niceness: Niceness of its main thread; policy and I/O class are also those of that thread.
        policy: Its scheduling policy; see `scheduling_policy`.
        idle_io: Whether its I/O waits for that of all others; see `has_idle_io`.
    """

    limits: dict[str, tuple[float, float]]
    cpus: frozenset[int]
    niceness: int = 0
    policy: int | None = 0
    idle_io: bool | None = None


def fitness_of(pid: int = 0, niceness: int = 0) -> Fitness | None:
    """Return the resources that process `pid` may use; `None` if they cannot be read.

    They are read from /proc, because prlimit(2) refuses to tell those of another user's process.

    Args:
        pid: Id of the process; 0 for this one.
        niceness: Number that the process will add to its niceness; below 0 it does not count, as it may be refused.
    """
    try:
        with open(f"/proc/{pid or 'self'}/limits", "rb", buffering=0) as file:
            lines = file.readall().decode().splitlines()
        cpus = frozenset(os.sched_getaffinity(pid))
        nice = min(NICEST, os.getpriority(os.PRIO_PROCESS, pid) + max(0, niceness))
    except (OSError, AttributeError):  # gone, hidden (`hidepid`), or not Linux
        return None
    limits = {line[:26].strip(): _limits_in(line) for line in lines[1:]}
    return Fitness(limits, cpus, nice, scheduling_policy(pid), has_idle_io(pid))


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
    if left.niceness > max(0, given.niceness):  # what is below 0 may not be inherited (SCHED_RESET_ON_FORK)
        return f"its niceness was raised from {given.niceness} to {left.niceness}"
    if left.policy is not None and given.policy is not None and _rank(left.policy) < _rank(given.policy):
        return f"its scheduling policy was changed from {given.policy} to {left.policy} (sched(7))"
    if left.idle_io and given.idle_io is False:
        return "its I/O was made to wait for that of all others (ionice -c 3)"
    return ""


def _rank(policy: int) -> int:
    """Return 0, 1 or 2 for a policy that gives next to no CPU time, less than usual, or the usual and more.

    Real-time policies count as usual, because not every process inherits them.
    """
    return {os.SCHED_IDLE: 0, os.SCHED_BATCH: 1}.get(policy & ~os.SCHED_RESET_ON_FORK, 2)
