"""`WorkerPython`: how the workers of a pool are started, even after their host has given up root.

Below a directory that only root may search (its home, say), a host that becomes another user finds neither its
interpreter nor its packages any more. A descriptor that root has opened still leads there: /proc/self/fd/N is followed
to the directory itself, and nothing above it is searched (proc_pid_fd(5), path_resolution(7)).

While a worker comes up, programs of the same user may use its descriptors, too. So they are mounts of their own, from
which no path leads up to what root has closed. Where no mount may be made, nothing is held.
"""

import contextlib
import importlib
import os
import stat
import sys
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Self

import anyio

import aiocmdpool.commands
from aiocmdpool.system import interpreter
from aiocmdpool.system.native import clone_tree

FOLDERS = "/proc/self/fd"
MOST_LINKS = 40  # that the kernel follows in one path
LATE = {"anyio._backends._asyncio": anyio.__file__, "aiocmdpool.commands.html": aiocmdpool.commands.__path__[0]}
"""Modules that this process imports when they are needed, with the place where they are found."""


class Start(NamedTuple):
    """The start of a worker.

    Attributes:
        argv: Command line, without the arguments of the worker.
        environment: Variables that only the worker needs, not its commands.
        descriptors: Descriptors that it needs.
    """

    argv: list[str]
    environment: dict[str, str]
    descriptors: tuple[int, ...]


class Held(NamedTuple):
    """A directory held open, with what shows that nobody else has closed the descriptor and reused its number."""

    fd: int
    device: int
    inode: int

    @classmethod
    def of(cls, fd: int) -> Self:
        """Return the holder of `fd`."""
        found = os.fstat(fd)
        return cls(fd, found.st_dev, found.st_ino)

    def close(self) -> None:
        """Close the descriptor, if it is still this one."""
        with contextlib.suppress(OSError):
            if self.of(self.fd) == self:
                os.close(self.fd)


class WorkerPython:
    """The Python of a pool's workers.

    Args:
        setting: Path of the interpreter; `None`: see `interpreter.find`.
    """

    def __init__(self, setting: str | None = None) -> None:
        self.setting = setting
        self._held: list[Held] | None = None  # empty if all users find what it takes; None before the first start
        self._program = self._folder = ""  # below the prefix and the package, which are held

    def start(self, folder: str) -> Start:
        """Return how to start the worker in `folder`. Blocks where `interpreter.find` does.

        Raises:
            NoPython: There is no usable interpreter.
            OSError: It could not be tried, for a reason that may pass.
        """
        found = interpreter.find(self.setting)
        main = os.path.join(folder, "__main__.py")
        if self._held is None and sys.platform == "linux" and os.geteuid() == 0 and not found.is_application:
            self._hold(os.path.realpath(found.path), folder, unless_open=(found.path, main))
        if self._held and not (_may(os.X_OK, found.path) and _may(os.R_OK, main)):
            return self._start_by_descriptors(*(each.fd for each in self._held))
        return Start(found.argv(folder), {}, ())

    def _hold(self, program: str, folder: str, unless_open: Iterable[str]) -> None:
        """Hold what only root may find: the prefix of the interpreter `program`, and the folder above `folder`."""
        prefix, package = Path(program).parent.parent, os.path.dirname(folder)
        if all(map(_is_open_to_all, unless_open)) or not any(prefix.glob("lib*/python3*/os.py")):
            self._held = []
            return
        for name, file in LATE.items():
            if not _is_open_to_all(file):
                importlib.import_module(name)
        self._program, self._folder = os.path.relpath(program, prefix), os.path.basename(folder)
        held = [Held.of(fd) for fd in map(clone_tree, (str(prefix), package)) if fd >= 0]
        if len(held) < 2:  # refused; or no free descriptors, so the start of the next worker tries again
            _close(held)
            return
        self._held = held
        weakref.finalize(self, _close, held).atexit = False

    def _start_by_descriptors(self, prefix: int, above: int) -> Start:
        # Its own library is searched for where it was installed, which is not found either, and then where all are.
        libraries = [f"{FOLDERS}/{prefix}/lib", *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        return Start(
            [f"{FOLDERS}/{prefix}/{self._program}", "-I", "-S", "-B", f"{FOLDERS}/{above}/{self._folder}/__main__.py"],
            {"LD_LIBRARY_PATH": ":".join(libraries)},
            (prefix, above),
        )

    def close(self) -> None:
        """Close the descriptors. Harmless when repeated."""
        _close(self._held or [])


def _close(held: list[Held]) -> None:
    while held:
        held.pop().close()


def _may(mode: int, path: str) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _is_open_to_all(path: str) -> bool:
    """Return whether every user may search all directories on the way to `path`."""
    return all(map(_may_be_searched_by_all, _directories_on_the_way(path)))


def _directories_on_the_way(path: str) -> set[Path]:
    """Return every directory in which the kernel looks something up to find `path` (path_resolution(7))."""
    here, names, links = Path("/"), [*reversed(Path(path).absolute().parts[1:])], 0
    searched = set()
    while names and links < MOST_LINKS:
        searched.add(here)
        name = names.pop()
        if name == "..":
            here = here.parent
            continue
        try:
            target = (here / name).readlink()
        except OSError:  # no link
            here /= name
            continue
        links += 1
        if target.is_absolute():
            here = Path("/")
        names += reversed(target.parts[target.is_absolute() :])
    return searched


def _may_be_searched_by_all(directory: Path) -> bool:
    try:
        return bool(directory.stat().st_mode & stat.S_IXOTH)
    except OSError:  # below a zip file in sys.path, say: nothing that could be held
        return True
