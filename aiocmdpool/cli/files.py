"""Makes sure that no file of a run is used for two purposes, or by two runs."""

import errno
import fcntl
import os
import stat
from collections.abc import Hashable

OUTPUTS = (("standard output", 1), ("standard error", 2))


class FilesError(Exception):
    """Two uses of a file conflict; the message is for people."""


class FileUses:
    """The uses of files. Only regular files count, because a terminal or a pipe may be shared."""

    def __init__(self) -> None:
        self._uses: dict[Hashable, str] = {}

    def read(self, name: str, file: str | int) -> None:
        """Record a file that is read, by path or descriptor; two readers do not conflict."""
        key = _identity(file)
        if key is not None:
            self._uses[key] = f"{name}, which is being read"

    def write(self, name: str, file: str | int) -> None:
        """Record a file that is written, by path or descriptor.

        Raises:
            FilesError: The file is read, or written for another purpose.
        """
        key = _identity(file)
        if key is None:
            return
        if key in self._uses:
            raise FilesError(f"{name} is the same file as {self._uses[key]}; name another file")
        self._uses[key] = name


def note_outputs(uses: FileUses) -> None:
    """Record standard output and standard error, which may be one file.

    Raises:
        FilesError: One of them is read as input.
    """
    keys = [_identity(fd) for _, fd in OUTPUTS]
    for (name, fd), key in zip(OUTPUTS, keys, strict=True):
        if fd == OUTPUTS[0][1] or key != keys[0]:
            uses.write(name, fd)


def lock(fd: int) -> str | None:
    """Lock a regular file for this process until its death; return who else has locked it, or `None`."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return _holder_of(fd)
        return None  # a file system without locks, so nobody else has one either
    return None


def holds(path: str, beginning: bytes) -> bool:
    """Return whether a file may be emptied: it begins like this, is empty, not regular, or does not exist."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return True
        with open(path, "rb") as file:
            return file.read(len(beginning)) in (beginning, b"")
    except OSError:  # it does not exist, or opening it will report the error
        return True


def _holder_of(fd: int) -> str:
    """Return the process that holds the lock on a file as text for people; see proc_locks(5)."""
    inode = os.fstat(fd).st_ino
    try:
        with open("/proc/locks") as locks:
            for line in locks:
                fields = line.split()
                if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
                    return f"process {fields[4]}{_name_of(fields[4])}"
    except (OSError, IndexError):
        return "another process"
    return "another process"


def _name_of(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = os.fsdecode(file.read(200)).rstrip("\0").split("\0")
    except OSError:
        return ""
    return f" ({' '.join(words)[:80]})" if words[0] else ""


def _identity(file: str | int) -> Hashable | None:
    """Return an identity of a file that is equal for all of its names; `None` if it is no regular file."""
    try:
        status = os.stat(file) if isinstance(file, str) else os.fstat(file)
    except FileNotFoundError:  # to be created
        return os.path.realpath(file) if isinstance(file, str) else None
    except OSError:  # opening it will report the error
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None
