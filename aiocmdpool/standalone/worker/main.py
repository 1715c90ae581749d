"""The worker's command line: `VERSION SOCKET_FD PARENT_PID NICENESS LC_CTYPE GROUP GUARDIAN PAGE [IDLE]`.

The first bytes on the socket are the secret cookie that marks all that this worker starts; command lines are public.
Frames arrive on stdin and leave on stdout. The worker starts programs for its parent, many at once, and makes sure that
nothing of them is left.
"""

import os
import sys

from .. import guardian
from ..kernel import cgroup
from ..kernel.launcher import given_environment
from ..kernel.oom import yield_memory_first
from ..kernel.prctl import become_subreaper, go_on_without_parent, hide_from_equals
from ..kernel.signals import signal
from ..wire.frames import COOKIE_SIZE, IDLE_STATUS, PROTOCOL_VERSION
from . import budget

BY_DESCRIPTOR = "/proc/self/fd/"
LATE = "ctypes", "fcntl", "mmap", "tempfile", "termios", f"{__package__}.server"  # imported where they are needed


def give_way(niceness: int) -> None:
    """Add `niceness` to the niceness of this process, and so of all that it starts."""
    os.nice(niceness)
    # If tasks are grouped by session, their niceness counts only within the group, and the group's own against others
    # (sched(7), "The autogroup feature"); this process leads a session of its own.
    try:
        with open("/proc/self/autogroup", "w") as group:
            group.write(str(max(-20, min(19, niceness))))
    except OSError:
        return  # this kernel has no scheduling groups by session


def meet_guardian(pipes: "list[int]", host: int, socket_fd: int) -> int:
    """Start the guardian if this worker is to do so; return the pipe for notes to it, or -1 without one.

    Args:
        pipes: The pipe for notes, if there is a guardian; also the two for `guardian.start`, if it is missing.
        host: Process id of the host.
        socket_fd: Descriptor of the socket, which the guardian must close.
    """
    for fd in pipes:
        os.set_inheritable(fd, False)
    notes, *start = pipes or [-1]
    if start:
        notes_end, alive_end = start
        guardian.start(notes_end, alive_end, host, (notes, socket_fd))
        os.close(notes_end)
        os.close(alive_end)
    return notes


def leave_the_way_here() -> None:
    """Close the folders that this program was started from by descriptor, if it was; import first what it imports late.

    Programs of the same user could use them. Their numbers stay taken: Python and the dynamic linker go on searching in
    them, and would do so in whatever was opened next.
    """
    started_by = [path[len(BY_DESCRIPTOR) :] for path in (sys.executable, __file__) if path.startswith(BY_DESCRIPTOR)]
    folders = [int(path.split("/")[0]) for path in started_by]
    if not folders:
        return
    for name in LATE:
        __import__(name)
    sys.path.clear()
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    for folder in folders:
        os.dup2(null, folder, inheritable=False)
    os.close(null)


def main() -> None:
    """Read the command line and serve the parent until there is nothing more to do."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # no child could be waited for, if the host has handed on SIG_IGN
    leave_the_way_here()
    yield_memory_first("self")  # first of all: a process that is not dumpable may not write there
    version, *settings = sys.argv[1:]  # their number and meaning are part of the protocol
    if version != str(PROTOCOL_VERSION):
        sys.exit(
            f"protocol {version} is asked for, and the files on disk speak {PROTOCOL_VERSION}: the package was "
            "upgraded while the host was running; restart the host"
        )
    socket_fd, parent, niceness, lc_ctype, group, pipes, page, *idle = settings
    os.set_inheritable(int(socket_fd), False)
    cookie = os.read(int(socket_fd), COOKIE_SIZE)
    notes = meet_guardian([int(fd) for fd in pipes.split(",") if fd], int(parent), int(socket_fd))
    has_entered = cgroup.start_to_enter(group)  # behind the guardian, which is to survive the end of the group
    from .server import Server  # meanwhile, as all that does not fork

    if int(niceness):
        give_way(int(niceness))
    budget.join(page)
    become_subreaper()
    go_on_without_parent()
    if not has_entered():
        group = ""
    hide_from_equals()  # last, after all writes to /proc/self
    environment, idle_for = given_environment(lc_ctype), float(*idle)
    server = Server(int(socket_fd), cookie, int(parent), environment, group, notes, idle_for)
    server.serve()
    if server.left_idle:
        guardian.tell_idle(notes)
        os._exit(IDLE_STATUS)  # at once: an exit of the guardian alone would look like its death
