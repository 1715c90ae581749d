"""`ChildStdio`: opens the three standard streams of a command, for the program and for this process."""

import contextlib
import errno
import fcntl
import os
import pathlib
import stat
import subprocess
from collections.abc import Iterable

from aiocmdpool.commands.command import CommandConfig, Stdio
from aiocmdpool.standalone.kernel.files import (
    CREATE,
    MOST_LINKS,
    are_one_file,
    is_fifo,
    leads_to_process,
    open_at_once,
)
from aiocmdpool.system.fork import keep_from_forks


class ChildStdio:
    """Descriptors of one command, ready for `subprocess.Popen`, and the parent's ends of its pipes.

    Whoever makes it calls `close_child_ends` after the start (failed or not) and owns the parent's ends:
    `stdin_pipe`, `stdout_pipe`, `stderr_pipe` are descriptors in non-blocking mode, or -1.

    Attributes:
        waiting: FIFOs, by the name of their stream, that wait for their other ends: the launcher opens them, so that
            only this program waits.

    Raises:
        OSError: A file could not be opened (`filename` says which), or there are no free descriptors. Nothing stays
            open then.
    """

    __slots__ = (
        "__weakref__",
        "_child_ends",
        "_waits_to_write",
        "stderr",
        "stderr_pipe",
        "stdin",
        "stdin_pipe",
        "stdout",
        "stdout_pipe",
        "waiting",
    )

    def __init__(self, command: CommandConfig) -> None:
        self._child_ends: list[int] = []
        keep_from_forks(self)
        self._waits_to_write = command.timeout is not None  # a FIFO may never be read, so never without a deadline
        self.waiting: dict[str, pathlib.Path] = {}
        self.stdin_pipe = self.stdout_pipe = self.stderr_pipe = -1
        try:
            self.stdin = self._input(command.stdin)
            self.stdout, self.stdout_pipe = self._output("stdout", command.stdout)
            if command.stderr is Stdio.MERGED:
                self.stderr: int | None = subprocess.STDOUT
            else:
                self.stderr, self.stderr_pipe = self._output("stderr", command.stderr)
                if self._are_paths_of_one_file(command):
                    self.stderr = self.stdout  # opened twice, one stream would overwrite the other
        except BaseException:
            self.close_child_ends()
            for fd in (self.stdin_pipe, self.stdout_pipe, self.stderr_pipe):
                if fd >= 0:
                    os.close(fd)
            raise

    def _input(self, source: bytes | pathlib.Path | Stdio | int) -> int | None:
        if isinstance(source, bytes) and source:
            read_end, self.stdin_pipe = os.pipe()  # close-on-exec, as all descriptors Python makes (PEP 446)
            self._child_ends.append(read_end)
            os.set_blocking(self.stdin_pipe, False)
            return read_end
        if isinstance(source, pathlib.Path):
            return self._open("stdin", source, os.O_RDONLY)
        if isinstance(source, int):
            return source
        return inherited_or_null(0) if source is Stdio.INHERIT else subprocess.DEVNULL

    def _output(self, name: str, target: pathlib.Path | Stdio | int) -> tuple[int | None, int]:
        if target is Stdio.CAPTURE:
            read_end, write_end = os.pipe()
            self._child_ends.append(write_end)
            os.set_blocking(read_end, False)
            return write_end, read_end
        if isinstance(target, pathlib.Path):
            return self._open(name, target, CREATE), -1
        if isinstance(target, int):
            return target, -1
        if target is Stdio.INHERIT:
            return inherited_or_null(1 if name == "stdout" else 2), -1
        return subprocess.DEVNULL, -1

    def _open(self, name: str, path: pathlib.Path, flags: int) -> int:
        where = os.fsencode(path)
        # A path of an open file of this process, such as the pipe that is its stdout, waits for nobody; and for the
        # launcher such a path means another file.
        may_wait = (flags == os.O_RDONLY or self._waits_to_write) and is_fifo(where)
        if may_wait and not leads_to_process(where):
            self.waiting[name] = path
            return subprocess.DEVNULL
        fd = open_path(where, flags)
        self._child_ends.append(fd)
        return fd

    def _are_paths_of_one_file(self, command: CommandConfig) -> bool:
        return (
            isinstance(command.stdout, pathlib.Path)
            and isinstance(command.stderr, pathlib.Path)
            and not self.waiting.keys() & {"stdout", "stderr"}
            and are_one_file(int(self.stdout or 0), int(self.stderr or 0))
        )

    def held(self) -> Iterable[int]:
        """Return the descriptors to close in forked children, for `keep_from_forks`."""
        return self._child_ends

    def close_child_ends(self) -> None:
        """Close the descriptors that belong to the program alone, so that its exit ends the pipes."""
        for fd in self._child_ends:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._child_ends.clear()


def open_path(path: bytes, flags: int) -> int:
    """Open a file for a standard stream, in this process, and return its descriptor.

    A path of a descriptor of this process that the kernel does not reopen, such as a socket or a file of another user,
    is duplicated.
    """
    if lacks_standard(path):
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO), path)
    try:
        return open_at_once(path, flags)
    except OSError as error:
        number = _named_descriptor(path)
        if number < 0 or error.errno not in (errno.ENXIO, errno.EACCES, errno.EPERM) or _is_anonymous(number):
            raise
        return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 0)


def _is_anonymous(number: int) -> bool:
    """Return whether a descriptor has no file type, such as that of an epoll, and so is no stream."""
    return stat.S_IFMT(os.fstat(number).st_mode) == 0


def _named_descriptor(path: bytes) -> int:
    """Return the number of this process's descriptor that a path names, by links or directly; -1 if it names none."""
    for _ in range(MOST_LINKS):
        folder, name = os.path.split(path)
        folder = os.path.realpath(folder)
        if name.isdigit() and folder.startswith(b"/proc/%d/" % os.getpid()) and folder.endswith(b"/fd"):
            return int(name)
        try:
            path = os.path.join(folder, os.readlink(os.path.join(folder, name)))
        except OSError:  # it is no link
            return -1
    return -1


_STANDARD = (b"/dev/stdin", b"/dev/stdout", b"/dev/stderr")


def lacks_standard(path: bytes) -> bool:
    """Return whether a path, with its links, names a standard stream that this process was started without."""
    if inherited(0) is not None and inherited(1) is not None and inherited(2) is not None:
        return False
    name = leads_to_process(path)
    return name in _STANDARD and inherited(_STANDARD.index(name)) is None


def inherited(number: int) -> int | None:
    """Return `number` if programs inherit this standard stream of the process; `None` if there is none.

    If this process was started without it, the first file it opened has that number, such as one of the loop; but a
    descriptor that is not inheritable is no standard stream (PEP 446).
    """
    try:
        flags = fcntl.fcntl(number, fcntl.F_GETFD)
    except OSError:
        return None
    return None if flags & fcntl.FD_CLOEXEC else number


def inherited_or_null(number: int) -> int | None:
    """Return an inherited stream as `subprocess.Popen` takes it: `None` to inherit, DEVNULL if there is none."""
    return subprocess.DEVNULL if inherited(number) is None else None
