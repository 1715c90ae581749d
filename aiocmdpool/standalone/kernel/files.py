"""Opens files for standard streams whose paths alone do not say enough.

Some paths mean another file in each process that opens them; opening a FIFO blocks until its other end is opened; and
two paths may lead to one file, which then has to be opened once, or one stream overwrites the other.
"""

import os
import stat

CREATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
MOST_LINKS = 40  # in one path, as in the kernel (path_resolution(7))

_OWN = (b"/dev/stdin", b"/dev/stdout", b"/dev/stderr", b"/dev/tty")
_OWN_FOLDERS = (b"/dev/fd/", b"/proc/self/", b"/proc/thread-self/")


def names_process(path: bytes) -> bool:
    """Return whether a normalized absolute path leads into a process: see `leads_to_process`. Asks no file system."""
    path = b"/" + path.lstrip(b"/")  # `normpath` keeps two leading slashes, as POSIX demands
    return path in _OWN or path.startswith(_OWN_FOLDERS) or (path.startswith(b"/proc/") and path[6:7].isdigit())


def leads_to_process(path: bytes) -> bytes:
    """Return where an absolute path, with its links, enters a process; empty if it does not. Asks the file system."""
    left, place = path.split(b"/")[::-1], b"/"
    links = 0
    while left and links < MOST_LINKS:
        name = left.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            place = os.path.dirname(place)
            continue
        step = os.path.join(place, name)
        if step in _OWN or (name.isdigit() and _is_procfs(place)):
            return step
        try:
            target = os.readlink(step)
        except OSError:  # no link, or not there
            place = step
            continue
        if name in (b"self", b"thread-self") and target.split(b"/")[0] == _me():
            return step  # procfs may be mounted anywhere
        links += 1
        left += target.split(b"/")[::-1]
        if target.startswith(b"/"):
            place = b"/"
    return b""


def _is_procfs(place: bytes) -> bool:
    try:
        return os.readlink(os.path.join(place, b"self")) == _me()
    except OSError:
        return place == b"/proc"  # procfs of another namespace, perhaps (pid_namespaces(7))


def _me() -> bytes:
    return b"%d" % os.getpid()


def is_fifo(path: bytes) -> bool:
    """Return whether a path leads to a FIFO, without opening it, which would wake a process at its other end."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:  # opening it will report the error
        return False


def open_at_once(path: bytes, flags: int) -> int:
    """Open a file without blocking; reads and writes of the returned descriptor block, as programs expect.

    Without O_NONBLOCK, opening a FIFO whose other end is not open would block this process (fifo(7)); with it, opening
    one for writing raises ENXIO.
    """
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY, 0o666)
    os.set_blocking(fd, True)
    return fd


def are_one_file(one: int, other: int) -> bool:
    """Return whether two descriptors are open on the same regular file."""
    first, second = os.fstat(one), os.fstat(other)
    return stat.S_ISREG(first.st_mode) and (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)
