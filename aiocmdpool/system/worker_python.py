"""`WorkerPython`: how the workers of a pool are started, even after their host has given up root.

Below a directory that only root may search (/root/.pyenv, say), a host that becomes another user finds neither its
interpreter nor its packages any more. A descriptor that root has opened still leads there: /proc/self/fd/N is followed
to the directory itself, and nothing above it is searched (proc_pid_fd(5), path_resolution(7)).
"""

import importlib
import os
import stat
import sys
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import anyio

from aiocmdpool.system import interpreter

FOLDERS = "/proc/self/fd"


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


class WorkerPython:
    """The Python of a pool's workers.

    Args:
        setting: Path of the interpreter; `None`: see `interpreter.find`.
    """

    def __init__(self, setting: str | None = None) -> None:
        self.setting = setting
        self._held: list[int] | None = (
            None  # the prefix, and the folder above that of the worker; None before the first start
        )
        self._program = self._folder = ""  # below these two

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
            return self._start_by_descriptors(*self._held)
        return Start(found.argv(folder), {}, ())

    def _hold(self, program: str, folder: str, unless_open: Iterable[str]) -> None:
        """Open what only root may find: the prefix of the interpreter `program`, and the folder above `folder`."""
        prefix = Path(program).parent.parent
        held: list[int] = []
        try:
            if not all(map(_is_open_to_all, unless_open)) and any(prefix.glob("lib*/python3*/os.py")):
                flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
                held.append(os.open(prefix, flags))
                held.append(os.open(os.path.dirname(folder), flags))
        except OSError:  # no free descriptors, say: the start of the next worker tries again
            _close(held)
            return
        if held and not _is_open_to_all(anyio.__file__):
            importlib.import_module("anyio._backends._asyncio")  # anyio imports it with the first call in a thread
        self._program, self._folder = os.path.relpath(program, prefix), os.path.basename(folder)
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


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


def _may(mode: int, path: str) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _is_open_to_all(path: str) -> bool:
    """Return whether every user may search the directories above `path`, and above what it is a link to."""
    above = {*Path(path).parents, *Path(path).resolve().parents}
    return all(directory.stat().st_mode & stat.S_IXOTH for directory in above)
