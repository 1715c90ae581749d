"""Files that standard streams are redirected to, where their paths alone do not say enough.

Some paths mean another file in each process that opens them; a FIFO holds who opens it until somebody has opened its
other end; and two paths may lead to one file, which then has to be opened once, or one stream overwrites the other.
"""

import os
import stat

CREATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
MOST_LINKS = 40  # in one path, as in the kernel (path_resolution(7))

_OWN = (b"/dev/stdin", b"/dev/stdout", b"/dev/stderr", b"/dev/tty")
_OWN_FOLDERS = (b"/dev/fd/", b"/proc/self/", b"/proc/thread-self/")


def names_process(path: bytes) -> bool:
    """Whether an absolute, normal path leads into a process: see `leads_to_process`. Asks no file system."""
    path = b"/" + path.lstrip(b"/")  # two slashes are kept by `normpath`, as POSIX has it
    return path in _OWN or path.startswith(_OWN_FOLDERS) or (path.startswith(b"/proc/") and path[6:7].isdigit())


def leads_to_process(path: bytes) -> bytes:
    """Tell how an absolute path, with its links, leads into a process; empty if it does not. Asks the file system.

    That is this process, under a name by which others mean themselves, as `/dev/stdout` or `/proc/self`; or one by its
    number, as `/proc/7`, which may be this one.
    """
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
        except OSError:  # it is no link, or not there
            place = step
            continue
        if name in (b"self", b"thread-self") and target.split(b"/")[0] == _me():
            return step  # wherever procfs is mounted
        links += 1
        left += target.split(b"/")[::-1]
        if target.startswith(b"/"):
            place = b"/"
    return b""


def _is_procfs(place: bytes) -> bool:
    try:
        return os.readlink(os.path.join(place, b"self")) == _me()
    except OSError:
        return place == b"/proc"  # it may be that of another namespace (pid_namespaces(7))


def _me() -> bytes:
    return b"%d" % os.getpid()


def is_fifo(path: bytes) -> bool:
    """Whether a path leads to a FIFO, without opening it: that would wake who waits for its other end."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:  # opening it tells what is wrong
        return False


def open_at_once(path: bytes, flags: int) -> int:
    """Open a file and wait for nobody; the descriptor itself blocks, as programs expect.

    Without O_NONBLOCK a FIFO that nobody has opened at the other end would hold this process (fifo(7)); with it, who
    opens one for writing gets ENXIO.
    """
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY, 0o666)
    os.set_blocking(fd, True)
    return fd


def are_one_file(one: int, other: int) -> bool:
    """Whether two descriptors are open on the same regular file."""
    first, second = os.fstat(one), os.fstat(other)
    return stat.S_ISREG(first.st_mode) and (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)
