"""How much room this process has: memory and CPU, as the kernel tells it, for its control group where that is limited.

All of it is read from files of the kernel, which takes microseconds and never waits for a disk.
"""

import os
from collections.abc import Iterator

_V1_FILES = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2_FILES = ("memory.max", "memory.current", "inactive_file")


class Memory:
    """Memory that a new program may use without pushing anything else out.

    `MemAvailable` (proc_meminfo(5)), or less where a control group has a limit: that, less what is in use there, not
    counting files that were read and can be dropped. Versions 1 and 2 of control groups, and all groups above.

    Raises:
        OSError: The system does not tell.
    """

    def __init__(self, proc: str = "/proc") -> None:
        self._meminfo = f"{proc}/meminfo"
        self._groups = [(path, _V2_FILES) for path in _group_and_above(proc, "")]
        self._groups += [(path, _V1_FILES) for path in _group_and_above(proc, "memory")]
        self.available()

    def available(self) -> int:
        """Bytes."""
        available = _entry(self._meminfo, "MemAvailable:") * 1024
        for path, (limit, usage, inactive) in self._groups:
            try:
                allowed = _text(f"{path}/{limit}").strip()
                if allowed != "max":
                    used = int(_text(f"{path}/{usage}")) - _entry(f"{path}/memory.stat", inactive)
                    available = min(available, max(0, int(allowed) - used))
            except FileNotFoundError:  # the root of all groups, or one without this controller
                continue
        return available


class CpuPressure:
    """How long programs had to wait for a CPU.

    That of the control group where it, or one above, has a quota (`cpu.max`): waiting for the quota is counted there
    only. Otherwise that of the system.

    Raises:
        OSError: The system does not tell: it is no Linux, older than 4.20, or was started with `psi=0`.
    """

    def __init__(self, proc: str = "/proc") -> None:
        groups = list(_group_and_above(proc, ""))
        self.path = f"{proc}/pressure/cpu"
        if any(map(_has_quota, groups)) and os.path.exists(f"{groups[0]}/cpu.pressure"):
            self.path = f"{groups[0]}/cpu.pressure"
        self.percent()

    def percent(self) -> float:
        """Percent of the last ten seconds in which some program was ready and had no CPU (`some avg10`)."""
        for line in _text(self.path).splitlines():
            if line.startswith("some "):
                return float(dict(figure.split("=") for figure in line.split()[1:])["avg10"])
        raise OSError(f"{self.path} has no line 'some'")


def _has_quota(group: str) -> bool:
    try:
        return not _text(f"{group}/cpu.max").startswith("max")
    except OSError:
        return False


def _group_and_above(proc: str, controller: str) -> Iterator[str]:
    """The directories of the control group of this process and of those above it; the empty controller is version 2."""
    try:
        memberships = (line.strip().split(":", 2) for line in _text(f"{proc}/self/cgroup").splitlines())
        path = next(path for _, names, path in memberships if controller in names.split(","))
        mounts = (_mount(line, controller) for line in _text(f"{proc}/self/mountinfo").splitlines())
        root, mount_point = next(mount for mount in mounts if mount)
    except (OSError, StopIteration):
        return
    below = path.removeprefix(root.rstrip("/")).rstrip("/")
    while True:
        yield mount_point + below
        if not below:
            return
        below = below.rpartition("/")[0]


def _mount(line: str, controller: str) -> tuple[str, str] | None:
    """Root and mount point of a line of mountinfo (proc(5)) if the controller is there."""
    mount, _, system = line.partition(" - ")
    kind, _, options = system.split()
    if kind == ("cgroup" if controller else "cgroup2") and (not controller or controller in options.split(",")):
        root, mount_point = mount.split()[3:5]
        return root, mount_point
    return None


def _entry(path: str, name: str) -> int:
    """The number after a name in a file of such lines."""
    for line in _text(path).splitlines():
        if line.startswith(name):
            return int(line.removeprefix(name).split()[0])
    raise OSError(f"{path} has no {name!r}")


def _text(path: str) -> str:
    with open(path) as file:
        return file.read()
