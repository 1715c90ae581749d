"""What a process pool counts."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ProcessPoolStatistics:
    """A snapshot."""

    workers: int
    """Workers that take commands."""
    wanted: int
    """Workers that there are to be, once there is anything to do."""
    in_flight: int
    """Commands given to workers and not answered."""
    completed: int
    """Commands answered, failures to start included."""
    lost: int
    """Workers that died or hung."""
    recycled: int
    """Workers replaced because of their age or memory."""
    failures: int
    """Workers in a row that died before they were ready, or could not be started; the next one is tried later."""
    pids: tuple[int, ...]
    """Of the workers."""
