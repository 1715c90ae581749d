"""How much room this process has: memory and CPU, as the kernel tells it, for its control group where that is limited.

All of it is read from files of the kernel, which takes microseconds and never waits for a disk.
"""

import os

from aiocmdpool.system.memory import Memory as Memory  # offered here, too
from aiocmdpool.system.memory import group_and_above, text_of


class CpuPressure:
    """How long programs had to wait for a CPU.

    That of the control group where it, or one above, has a quota (`cpu.max`): waiting for the quota is counted there
    only. Otherwise that of the system.

    Raises:
        OSError: The system does not tell: it is no Linux, older than 4.20, or was started with `psi=0`.
    """

    def __init__(self, proc: str = "/proc") -> None:
        groups = list(group_and_above(proc, ""))
        self.path = f"{proc}/pressure/cpu"
        if any(map(_has_quota, groups)) and os.path.exists(f"{groups[0]}/cpu.pressure"):
            self.path = f"{groups[0]}/cpu.pressure"
        self.percent()

    def percent(self) -> float:
        """Percent of the last ten seconds in which some program was ready and had no CPU (`some avg10`)."""
        for line in text_of(self.path).splitlines():
            if line.startswith("some "):
                return float(dict(figure.split("=") for figure in line.split()[1:])["avg10"])
        raise OSError(f"{self.path} has no line 'some'")


def _has_quota(group: str) -> bool:
    try:
        return not text_of(f"{group}/cpu.max").startswith("max")
    except OSError:
        return False
