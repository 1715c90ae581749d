"""Free memory for this process: that of the system, or of its control group where that is limited.

All figures come from files of the kernel, which takes microseconds and never waits for a disk.
"""

from collections.abc import Iterator

FLOOR = 16 * 1024 * 1024  # bytes; with less, no large output could ever be captured
_V1_FILES = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2_FILES = ("memory.max", "memory.current", "inactive_file")


class Memory:
    """Memory that a new program may use without displacing anything.

    That is `MemAvailable` (proc_meminfo(5)), or less where a control group has a limit: then the limit minus its use,
    not counting files that were read and can be dropped. Versions 1 and 2 of control groups, with all parent groups.

    Raises:
        OSError: The system does not provide the figures.
    """

    def __init__(self, proc: str = "/proc") -> None:
        self._meminfo = f"{proc}/meminfo"
        self._groups = [(path, _V2_FILES) for path in group_and_above(proc, "")]
        self._groups += [(path, _V1_FILES) for path in group_and_above(proc, "memory")]
        self.available()

    def available(self) -> int:
        """Return the number of bytes that are available now."""
        available = _entry(self._meminfo, "MemAvailable:") * 1024
        for path, (limit, usage, inactive) in self._groups:
            try:
                allowed = text_of(f"{path}/{limit}").strip()
                if allowed != "max":
                    used = int(text_of(f"{path}/{usage}")) - _entry(f"{path}/memory.stat", inactive)
                    available = min(available, max(0, int(allowed) - used))
            except FileNotFoundError:  # the root group, or one without this controller
                continue
        return available


def group_and_above(proc: str, controller: str) -> Iterator[str]:
    """Yield the directories of this process's control group and of its parents; controller "" means version 2."""
    try:
        memberships = (line.strip().split(":", 2) for line in text_of(f"{proc}/self/cgroup").splitlines())
        path = next(path for _, names, path in memberships if controller in names.split(","))
        mounts = (_mount(line, controller) for line in text_of(f"{proc}/self/mountinfo").splitlines())
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
    """Return root and mount point from a line of mountinfo (proc(5)), or `None` if it is not for this controller."""
    mount, _, system = line.partition(" - ")
    kind, _, options = system.split()
    if kind == ("cgroup" if controller else "cgroup2") and (not controller or controller in options.split(",")):
        root, mount_point = mount.split()[3:5]
        return root, mount_point
    return None


def _entry(path: str, name: str) -> int:
    """Return the number after `name` in a file of lines that begin with a name."""
    for line in text_of(path).splitlines():
        if line.startswith(name):
            return int(line.removeprefix(name).split()[0])
    raise OSError(f"{path} has no {name!r}")


def text_of(path: str) -> str:
    """Return the content of a file of the kernel."""
    with open(path) as file:
        return file.read()


def default_output_budget(proc: str = "/proc") -> int | None:
    """Return half of the bytes that are free now as a default for `max_output_total`; `None` if unknown."""
    try:
        return max(FLOOR, Memory(proc).available() // 2)
    except (OSError, ValueError):
        return None
