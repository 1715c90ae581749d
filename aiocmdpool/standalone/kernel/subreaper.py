"""Makes orphaned descendants come to this process rather than to init (PR_SET_CHILD_SUBREAPER, prctl(2))."""

import sys

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> bool:
    """Whether orphans come here from now on; only Linux can do that."""
    if sys.platform != "linux":
        return False
    import ctypes

    libc = ctypes.CDLL(None)
    return int(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) == 0
