"""Makes the kernel kill started programs before their starter when memory runs out."""

import os

YIELD_BY = 200  # thousandths of all memory by which the kernel overrates the use of a process (oom_score_adj, proc(5))
HIGHEST = 1000  # the kernel's maximum


def yield_memory_first(pid: str) -> None:
    """Have the process `pid` (or "self"), and what it starts, killed before its starter when memory runs out.

    Raises its inherited `oom_score_adj` by `YIELD_BY`, which needs no privilege. If the system has no such file, or
    refuses (another user's, not dumpable, read-only), nothing changes.
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
