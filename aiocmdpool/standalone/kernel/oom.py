"""Who is killed first when memory runs out: what was started, rather than the one who started it."""

import os

YIELD_BY = 200  # thousandths of all memory that a process is taken to use beyond what it does (oom_score_adj, proc(5))
HIGHEST = 1000  # the kernel takes no more


def yield_memory_first(pid: str) -> None:
    """Have the process `pid` (or "self"), and what it starts, killed for memory before the one who started it.

    Raises its `oom_score_adj`, which it inherited, by `YIELD_BY`; that needs no privilege. Where the system has no such
    file, or refuses (another user's, not dumpable, read-only), everything stays as it is.
    """
    try:
        fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    try:
        score = min(HIGHEST, int(os.read(fd, 32)) + YIELD_BY)
        os.pwrite(fd, b"%d" % score, 0)
    except (OSError, ValueError):
        return
    finally:
        os.close(fd)
