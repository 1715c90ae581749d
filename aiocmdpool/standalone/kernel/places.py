"""Tells which places in the file system answer at once, without asking them.

A file system that is served by another machine or process (NFS, FUSE, 9p, …) may answer late or never, and blocks its
callers: a `chdir`, an `open`, a `stat`, an `exec` of a script whose interpreter lies there (uvloop#118, psutil#1931).
These calls have no time limit. So a process that must not block leaves the first access to a child that can be
abandoned, and remembers for a while what the child has found: `all_local` is for that child.
"""

import os
import time

LOCAL = frozenset(
    b"bcachefs btrfs devtmpfs ecryptfs erofs exfat ext2 ext3 ext4 f2fs hfsplus iso9660 jfs minix nilfs2 ntfs3 overlay "
    b"proc ramfs reiserfs rootfs squashfs sysfs tmpfs udf ufs vfat xfs zfs".split()
)
"""Types of file systems served by the kernel alone (proc_pid_mountinfo(5)). Any other type may not answer."""
REMEMBERED_FOR = 1.0  # seconds; a mount or a link may get in the way later
REMEMBERED = 1024  # sets of places
INTERPRETERS = 4  # scripts that name scripts as interpreter: BINPRM_MAX_RECURSION in the kernel's fs/exec.c
MOUNTS = "/proc/self/mountinfo"


class Places:
    """Sets of places that have been found to be local, each for a limited time."""

    __slots__ = ("_local", "knows")

    def __init__(self) -> None:
        self._local: dict[object, float] = {}
        self.knows = os.path.exists(MOUNTS)
        """Whether this system provides a mount table; without one, every place counts as local."""

    def are_local(self, key: object) -> bool:
        """Return whether the places of the start `key` were found to be local in the last `REMEMBERED_FOR` s."""
        return not self.knows or self._local.get(key, 0.0) > time.monotonic()

    def note_local(self, key: object) -> None:
        """Remember for `REMEMBERED_FOR` seconds that the places of the start `key` are local."""
        if len(self._local) >= REMEMBERED:
            self._local.clear()
        self._local[key] = time.monotonic() + REMEMBERED_FOR


def all_local(directories: "list[bytes]", program: bytes) -> bool:
    """Return whether `directories`, `program` and its interpreter are all on local file systems.

    Accesses them, and blocks if one does not answer.
    """
    try:
        mounts = local_mounts()
        paths = [os.path.realpath(directory or b".") for directory in directories]
        for _ in range(INTERPRETERS):
            if not program:
                break
            program = os.path.realpath(program)
            paths.append(program)
            program = interpreter_of(program)
    except OSError:  # no mount table, or the working directory is gone
        return False
    return all(_is_local(path, mounts) for path in paths)


def is_here_local() -> bool:
    """Return whether the working directory is on a local file system, without an access to that file system."""
    if not os.path.exists(MOUNTS):
        return True
    try:
        return _is_local(os.readlink(b"/proc/self/cwd"), local_mounts())
    except OSError:
        return False


def interpreter_of(program: bytes) -> bytes:
    """Return the interpreter that a script names (execve(2), "Interpreter scripts"); empty for anything else."""
    try:
        with open(program, "rb", buffering=0) as file:
            first = file.read(256)
    except OSError:
        return b""
    words = first[2:].partition(b"\n")[0].split(None, 1) if first.startswith(b"#!") else []
    return words[0] if words else b""


def local_mounts() -> "dict[bytes, bool]":
    """Return by mount point whether the mount is local; the last mount at a point hides the others."""
    with open(MOUNTS, "rb", buffering=0) as file:
        data = file.readall()
    mounts = {}
    for line in data.splitlines():
        before, _, after = line.partition(b" - ")
        mounts[_unescape(before.split(b" ")[4])] = after.split(b" ", 1)[0] in LOCAL
    return mounts


def _is_local(path: bytes, mounts: "dict[bytes, bool]") -> bool:
    """Return whether the mount of a path without links is local."""
    while path not in mounts:
        if path in (b"/", b""):
            return False
        path = os.path.dirname(path)
    return mounts[path]


def _unescape(path: bytes) -> bytes:
    """Return a path of the mount table with the octal escapes of blanks undone."""
    for code in (b"040", b"011", b"012", b"134"):
        path = path.replace(b"\\" + code, bytes([int(code, 8)]))
    return path
