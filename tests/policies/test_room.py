"""What the kernel says about room, read from a made-up `/proc` and control groups, and from the real ones."""

import sys
from pathlib import Path

import pytest

from aiocmdpool.policies.headroom import CpuPressure, Memory

MIB = 1 << 20
PRESSURE = "some avg10={} avg60=1.00 avg300=1.00 total=99\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"


class System:
    """A made-up system in a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.proc = str(root / "proc")
        self.write("proc/meminfo", f"MemTotal: 99999999 kB\nMemFree: 1 kB\nMemAvailable:   {1000 * 1024} kB\n")
        self.write("proc/pressure/cpu", PRESSURE.format("12.50"))

    def write(self, path: str, text: object) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n" if not str(text).endswith("\n") else str(text))

    def in_group(self, own: str, *, root: str = "/", version: int = 2) -> None:
        controllers = ("cpu,cpuacct", "memory")
        lines = [f"0::{own}"] if version == 2 else ["9:name=systemd:/x", *(f"3:{name}:{own}" for name in controllers)]
        self.write("proc/self/cgroup", "\n".join(lines))
        kind = "cgroup2 cgroup2 rw" if version == 2 else "cgroup cgroup rw,memory"
        self.write(
            "proc/self/mountinfo",
            f"22 1 0:5 / {self.root}/proc rw - proc proc rw\n31 23 0:28 {root} {self.root}/cg rw shared:9 - {kind}\n",
        )

    def group(self, path: str, limit: object, usage: int = 0, inactive: int = 0, version: int = 2) -> None:
        names = ("memory.max", "memory.current", "inactive_file")
        if version == 1:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        self.write(f"cg{path}/{names[0]}", limit)
        self.write(f"cg{path}/{names[1]}", usage)
        self.write(f"cg{path}/memory.stat", f"anon 5\n{names[2]} {inactive}\nother 7\n")


@pytest.fixture
def system(tmp_path):
    return System(tmp_path)


def test_memory_is_what_the_kernel_calls_available(system):
    assert Memory(system.proc).available() == 1000 * MIB


def test_it_is_looked_at_each_time(system):
    memory = Memory(system.proc)
    system.write("proc/meminfo", "MemAvailable: 5 kB")
    assert memory.available() == 5 * 1024


@pytest.mark.parametrize("version", [1, 2])
def test_the_tightest_group_counts(system, version):
    system.in_group("/outer/inner", version=version)
    system.group("/outer/inner", 900 * MIB, 100 * MIB, version=version)
    system.group("/outer", 500 * MIB, 300 * MIB, 50 * MIB, version=version)
    memory = Memory(system.proc)
    assert memory.available() == 250 * MIB
    system.group("/outer", 500 * MIB, 700 * MIB, version=version)
    assert memory.available() == 0


@pytest.mark.parametrize(("version", "unlimited"), [(2, "max"), (1, (1 << 63) - 4096)])
def test_a_group_without_a_limit_does_not(system, version, unlimited):
    system.in_group("/group", version=version)
    system.group("/group", unlimited, 999 * MIB, version=version)
    assert Memory(system.proc).available() == 1000 * MIB


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_sees_its_own_group_as_the_root(system, version):
    system.in_group("/host/pod/inner", root="/host/pod", version=version)
    system.group("", 100 * MIB, 40 * MIB, version=version)
    system.group("/inner", 50 * MIB, 40 * MIB, version=version)
    assert Memory(system.proc).available() == 10 * MIB


def test_a_system_that_does_not_tell_is_an_error(tmp_path, system):
    with pytest.raises(OSError, match="meminfo"):
        Memory(str(tmp_path / "nothing"))
    system.write("proc/meminfo", "MemFree: 5 kB")
    with pytest.raises(OSError, match="no 'MemAvailable:'"):
        Memory(system.proc)


def test_pressure_is_that_of_the_last_ten_seconds(system):
    pressure = CpuPressure(system.proc)
    assert pressure.percent() == 12.5
    system.write("proc/pressure/cpu", PRESSURE.format("0.00"))
    assert pressure.percent() == 0


@pytest.mark.parametrize(
    ("quotas", "percent"),
    [
        ({}, 12.5),
        ({"/outer": "max 100000", "/outer/inner": "max 100000"}, 12.5),
        ({"/outer": "150000 100000", "/outer/inner": "max 100000"}, 77),
        ({"/outer/inner": "50000 100000"}, 77),
    ],
)
def test_a_quota_makes_it_that_of_the_own_group(system, quotas, percent):
    system.in_group("/outer/inner")
    system.write("cg/outer/inner/cpu.pressure", PRESSURE.format("77.00"))
    for path, quota in quotas.items():
        system.write(f"cg{path}/cpu.max", quota)
    assert CpuPressure(system.proc).percent() == percent


def test_a_kernel_that_does_not_measure_it_is_an_error(system):
    (system.root / "proc/pressure/cpu").unlink()
    with pytest.raises(FileNotFoundError):
        CpuPressure(system.proc)
    system.write("proc/pressure/cpu", "")
    with pytest.raises(OSError, match="no line 'some'"):
        CpuPressure(system.proc)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_the_real_system_tells():
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    assert 0 < Memory().available() <= int(total.split()[1]) * 1024
    if Path("/proc/pressure/cpu").exists():
        assert 0 <= CpuPressure().percent() <= 100
