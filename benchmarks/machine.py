"""What a run was made on: enough to judge the figures by, nothing that names a machine or a person."""

import datetime
import os
import pathlib
import platform
import re
import sys
from importlib.metadata import version

from benchmarks.process_figures import meminfo


def describe_machine() -> dict[str, str | int | float]:
    """The facts that are saved with the figures."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_gb": round(meminfo("MemTotal") / 1e9, 1),
        "load_before": round(os.getloadavg()[0], 2),
        # The rest of a release often names a vendor's or a site's own build.
        "kernel": f"{platform.system()} {re.match(r'[0-9.]*', platform.release())[0]}",  # type: ignore[index]
        "huge_pages": _huge_pages(),
        "autogroup": _autogroup(),
        "python": platform.python_version(),
        "uvloop": version("uvloop"),
        "anyio": version("anyio"),
        "aiocmdpool": _own_version(),
    }


def one_line(machine: dict[str, str | int | float]) -> str:
    """For a caption."""
    return (
        f"{machine['cores']} cores ({machine['cpu']}), {machine['kernel']}, Python {machine['python']}, "
        f"uvloop {machine['uvloop']}, {machine['date']}"
    )


def _cpu_model() -> str:
    if sys.platform == "linux":
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _huge_pages() -> str:
    """Whether large allocations get huge pages by themselves: then a fork copies fewer page tables."""
    try:
        text = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        return "unknown"
    return text.partition("[")[2].partition("]")[0]


def _autogroup() -> str:
    """Whether the scheduler shares the CPUs among sessions (sched(7)): beside other load, who has more gets more."""
    try:
        return "on" if pathlib.Path("/proc/sys/kernel/sched_autogroup_enabled").read_text().strip() == "1" else "off"
    except OSError:
        return "off"


def _own_version() -> str:
    try:
        return version("aiocmdpool")
    except Exception:  # it is measured where it stands, without being installed
        return "source"
