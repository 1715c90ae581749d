"""The commands that are measured."""

import dataclasses
import os
import shutil


@dataclasses.dataclass(frozen=True, slots=True)
class Workload:
    """A program that ends at once, with all of its output captured."""

    name: str
    program: str
    args: tuple[str, ...]
    output: int
    """Bytes on stdout; every answer is checked against it."""

    @property
    def argv(self) -> list[str]:
        """The program and its arguments."""
        return [self.program, *self.args]


def _find(name: str) -> str:
    path = f"/bin/{name}"
    return path if os.access(path, os.X_OK) else shutil.which(name) or name


TRUE = Workload("true", _find("true"), (), 0)
ECHO = Workload("echo", _find("echo"), ("hello",), 6)
MEGABYTE = Workload("1 MB", _find("head"), ("-c", "1000000", "/dev/zero"), 1_000_000)

WORKLOADS = {workload.name: workload for workload in (TRUE, ECHO, MEGABYTE)}
