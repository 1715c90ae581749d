"""`ProcessPoolStatistics`: a snapshot of the counters of a process pool."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ProcessPoolStatistics:
    """Counters and worker pids of a process pool at one moment."""

    workers: int
    """Number of workers that take commands."""
    wanted: int
    """Number of workers that the pool keeps once it has work."""
    in_flight: int
    """Number of commands that were given to workers and are not answered."""
    completed: int
    """Number of commands that were answered, including those that failed to start."""
    lost: int
    """Number of workers that died or hung."""
    recycled: int
    """Number of workers that were replaced because of their age or memory."""
    failures: int
    """Number of workers in a row that died before they were ready, or could not be started; the next is tried later."""
    pids: tuple[int, ...]
    """Process ids of the workers that take commands."""
