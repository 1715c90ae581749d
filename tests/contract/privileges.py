"""Privileges that tests take, by the names of capabilities(7): what cannot apply here is skipped, and says why."""

import os
import sys

import pytest

_BITS = {
    "CAP_DAC_OVERRIDE": 1,
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SETPCAP": 8,
    "CAP_SYS_CHROOT": 18,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_NICE": 23,
}


def has_capability(name: str) -> bool:
    """Return whether this process has a capability; where there are none, root has them all."""
    if sys.platform != "linux":
        return os.geteuid() == 0
    with open("/proc/self/status") as file:
        effective = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
    return bool(effective >> _BITS[name] & 1)


def needs_capability(*names: str) -> pytest.MarkDecorator:
    """Mark a test that is skipped where this process lacks one of the capabilities."""
    missing = [name for name in names if not has_capability(name)]
    return pytest.mark.skipif(bool(missing), reason=f"takes {', '.join(missing)}")
