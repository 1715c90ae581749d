"""`jobs_that_fit`: the number of concurrent commands that the limit on descriptors allows."""

import resource
from typing import NamedTuple

from aiocmdpool.cli.output.order import MAX_HELD_FILES

PIPES = 4  # descriptors of a command: two pipes, both ends
READ_ENDS = 2  # descriptors that remain if the others are closed when it has started
MAX_QUEUED = 8  # commands
SPARE = 48  # for the loop, the workers, and files of the command line itself


class Fit(NamedTuple):
    """The number of commands that the limit on descriptors allows."""

    jobs: int
    limit: int
    is_tight: bool
    """Whether a command must close descriptors that it no longer needs once it has started."""


def jobs_that_fit(jobs: int) -> Fit:
    """Raise the soft limit on descriptors if `jobs` commands need that; return how many it allows then.

    It is raised no further than needed: the commands inherit it, and `select(2)` fails on descriptors above 1,023.

    Args:
        jobs: Wanted number of concurrent commands.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = PIPES * (jobs + queued_for(jobs)) + MAX_HELD_FILES + SPARE
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return Fit(jobs, soft, is_tight=False)
    left = soft - MAX_HELD_FILES - SPARE - PIPES * MAX_QUEUED
    return Fit(max(1, min(jobs, left // READ_ENDS)), soft, is_tight=True)


def queued_for(jobs: int) -> int:
    """Return how many commands wait in the pool's queue, with their pipes, so that a free place is taken at once."""
    return min(jobs, MAX_QUEUED)
