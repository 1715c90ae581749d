"""The guardian of some workers: ends what they leave when they and their parent are all killed at once.

    host ────┐ notes
    worker ──┼──────── one pipe ───▶ guardian        (no child of theirs, in a session of its own)
    worker ──┘

It reads notes, and does nothing. Whoever writes holds the pipe open until it dies, and hands it on to no program: so
the end of the pipe comes when host and workers are dead, and only then. If nobody has said that all is well by then,
it sweeps up. The first worker forks it as soon as it starts: by then Python is up, which takes twenty times as long.

Notes are lines, each shorter than PIPE_BUF, so that those of several writers do not mix (pipe(7)):

    worker PID STARTED COOKIE GROUP     it runs; its control group is a directory, or empty
    gone PID                            it is dead, and nothing of it is left
    left PID STARTED                    a process that a detached command was allowed to leave behind
    bye                                 all are gone
"""

import os
import signal
import time

from .kernel import cgroup
from .kernel import processes as procs
from .kernel.roundup import Roundup

LONGEST_NOTE = 4096  # bytes: PIPE_BUF of Linux
SWEEP_FOR = 10.0  # seconds; what is left then is left to the kernel
LOOK_AGAIN_AFTER = 0.002  # seconds
MAX_LEFT = 1000  # remembered before those that have died since are forgotten

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def note_worker(pid: int, cookie: bytes, group: str) -> bytes:
    """A note that a worker has been started."""
    process = procs.look_at(pid)
    started = process.started if process is not None else 0
    head, directory = b"worker %d %d %s " % (pid, started, cookie), os.fsencode(group)
    fits = len(head) + len(directory) < LONGEST_NOTE and b"\n" not in directory
    return head + (directory if fits else b"") + b"\n"


def note_gone(pid: int) -> bytes:
    """A note that a worker has ended, and nothing of it is left."""
    return b"gone %d\n" % pid


def tell_left(notes: int, pid: int) -> None:
    """Tell the guardian of a process that may outlive its worker. A mark could be forged; this is what it trusts.

    Args:
        notes: The pipe; -1 is none.
        pid: The process. Its descendants may outlive the worker as well.
    """
    process = procs.look_at(pid) if notes >= 0 else None
    if process is not None:
        try:
            os.write(notes, b"left %d %d\n" % (pid, process.started))
        except OSError:  # nobody reads, and the pipe is full: the guardian is dead or stopped
            return


BYE = b"bye\n"


class Worker:
    """What has been noted of one worker."""

    __slots__ = ("cookie", "group", "started")

    def __init__(self, started: int, cookie: bytes, group: str) -> None:
        self.started = started
        self.cookie = cookie
        self.group = group


class Notes:
    """What has been noted so far."""

    def __init__(self) -> None:
        self.workers: dict[int, Worker] = {}
        self.left: dict[int, int] = {}
        """When the processes that may stay were started, by pid."""
        self.all_is_well = False
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            word, *fields = line.split(b" ", 4)
            if word == b"worker":
                self.workers[int(fields[0])] = Worker(int(fields[1]), fields[2], os.fsdecode(fields[3]))
            elif word == b"gone":
                self.workers.pop(int(fields[0]), None)
            elif word == b"left":
                self._forget_the_dead()
                self.left[int(fields[0])] = int(fields[1])
            elif word == b"bye":
                self.all_is_well = True

    def _forget_the_dead(self) -> None:
        if len(self.left) < MAX_LEFT:
            return
        for pid, started in list(self.left.items()):
            process = procs.look_at(pid)
            if process is None or process.started != started:
                del self.left[pid]


def start(notes: int, alive: int) -> None:
    """Fork a guardian, and return in the caller. It is no child of this process, which must not be a subreaper yet.

    Args:
        notes: The reading end of the pipe.
        alive: A pipe to the host. The guardian says its pid there, and lets go of it when it dies.
    """
    try:
        middle = os.fork()
    except OSError:  # as many processes as there may be; the host sees that there is none
        return
    if middle:
        os.waitpid(middle, 0)
        return
    try:
        os.setsid()
        if os.fork() == 0:
            _let_go_of_all_but(notes, alive)
            _guard()
    finally:
        os._exit(0)


def _let_go_of_all_but(notes: int, alive: int) -> None:
    """Keep nothing of this process but two pipes, which become 3 and 4."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    notes, alive = os.dup2(notes, 100), os.dup2(alive, 101)  # out of the way of each other
    os.dup2(notes, 3, inheritable=False)
    os.dup2(alive, 4, inheritable=False)
    os.closerange(5, 256)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    try:
        with open("/proc/self/comm", "w") as name:  # for people who look at processes
            name.write("cmdpool-guard")
    except OSError:
        return


def _guard() -> None:
    """Read notes to the end."""
    os.write(4, b"%d\n" % os.getpid())
    notes = Notes()
    while data := os.read(3, 65536):
        notes.feed(data)
        if notes.all_is_well:
            return
    sweep(notes)


def sweep(notes: Notes) -> None:
    """End whatever the workers that were noted have left, but for what may stay. Blocks."""
    _hurry()
    for worker in notes.workers.values():
        if worker.group:
            cgroup.kill(worker.group)
    sessions = {pid: worker.started for pid, worker in notes.workers.items() if not _is_another(pid, worker.started)}
    prefixes = tuple(worker.cookie + separator for worker in notes.workers.values() for separator in (b":", b"+"))

    def belongs(process: procs.Process) -> "bool | None":
        if process.session in sessions and process.started >= sessions[process.session]:
            return True
        marks = procs.marks_of(process.pid)
        return None if marks is None else any(mark.startswith(prefixes) for mark in marks)

    deadline = time.monotonic() + SWEEP_FOR
    while time.monotonic() < deadline:
        roundup = Roundup(belongs, lambda process: notes.left.get(process.pid) == process.started)
        while roundup.step() and time.monotonic() < deadline:
            time.sleep(LOOK_AGAIN_AFTER)
        if not roundup.found or roundup.left:
            return


def _is_another(pid: int, started: int) -> bool:
    """Whether the number of a worker was given to another process, and with it perhaps that of the session."""
    process = procs.look_at(pid)
    return process is not None and process.started != started


def _hurry() -> None:
    """Get more of the CPUs than what is to be ended, where that is permitted."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        with open("/proc/self/autogroup", "w") as group:  # sched(7)
            group.write("-20")
    except OSError:
        return
