"""A file system below argv[1] that does not answer, for argv[2] seconds each time, what is asked about `silent/…`."""

import os
import stat
import sys
import time
from typing import Any

from fuse import FUSE, Operations

mount_point, seconds = sys.argv[1], float(sys.argv[2])


class Silent(Operations):  # type: ignore[misc]  # the library has no types
    def init(self, path: str) -> None:
        os.write(1, b"mounted\n")

    def getattr(self, path: str, fh: Any = None) -> dict[str, int]:
        if path.startswith("/silent"):
            time.sleep(seconds)
        kind = stat.S_IFREG if path.endswith("file") else stat.S_IFDIR
        return {"st_mode": kind | 0o777, "st_nlink": 2, "st_size": 0, "st_ctime": 0, "st_mtime": 0, "st_atime": 0}


FUSE(Silent(), mount_point, foreground=True, allow_other=True, attr_timeout=0, entry_timeout=0)
