"""Memory and CPU that are free for this process, or for its control group if that is limited.

All figures come from files of the kernel, which takes microseconds and never waits for a disk.
"""

import os

from aiocmdpool.system.memory import Memory as Memory  # offered here, too
from aiocmdpool.system.memory import group_and_above, text_of


class CpuPressure:
    """The share of time in which programs had to wait for a CPU.

    It is that of the control group if it, or a parent, has a quota (`cpu.max`), because only there waiting for the
    quota is counted; otherwise that of the system.

    Raises:
        OSError: The system does not provide it: it is no Linux, older than 4.20, or was started with `psi=0`.
    """

    def __init__(self, proc: str = "/proc") -> None:
        groups = list(group_and_above(proc, ""))
        self.path = f"{proc}/pressure/cpu"
        if any(map(_has_quota, groups)) and os.path.exists(f"{groups[0]}/cpu.pressure"):
            self.path = f"{groups[0]}/cpu.pressure"
        self.percent()

    def percent(self) -> float:
        """Return the percent of the last ten seconds in which some program was ready and had no CPU (`some avg10`)."""
        for line in text_of(self.path).splitlines():
            if line.startswith("some "):
                return float(dict(figure.split("=") for figure in line.split()[1:])["avg10"])
        raise OSError(f"{self.path} has no line 'some'")


def _has_quota(group: str) -> bool:
    try:
        return not text_of(f"{group}/cpu.max").startswith("max")
    except OSError:
        return False
