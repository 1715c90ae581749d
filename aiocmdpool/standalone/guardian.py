"""The guardian of some workers: ends what they leave when they and their parent are all killed at once.

    host ────┐ notes
    worker ──┼──────── one pipe ───▶ guardian        (no child of theirs, in a session of its own)
    worker ──┘

It reads notes, and does nothing. Whoever writes holds the pipe open until it dies, and hands it on to no program: so
its end comes when host and workers are dead. If nobody has said that all is well by then, it sweeps up. A worker
forks it as soon as it starts: by then Python is up, which takes ten times as long.

Notes are lines, each shorter than PIPE_BUF, so that those of several writers do not mix (pipe(7)):

    worker PID STARTED COOKIE GROUP     it runs; its control group is a directory, or empty
    gone PID                            it is dead, and nothing of it is left
    left PID STARTED                    a process that a detached command was allowed to leave behind
    bye                                 all are gone
"""

import os
import select
import signal
import time

from .kernel import cgroup
from .kernel import processes as procs
from .kernel.roundup import Roundup

LONGEST_NOTE = 4096  # bytes: PIPE_BUF of Linux
ORPHANS_LEAVE_AFTER = 2.0  # seconds; a worker that can act has ended everything, and left, in less than one
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


def note_left(pid: int, started: int) -> bytes:
    """A note that a process, with all that is below it, may outlive its worker."""
    return b"left %d %d\n" % (pid, started)


def tell_left(notes: int, pid: int) -> None:
    """Tell the guardian of a process that may outlive its worker. A mark could be forged; this is what it trusts.

    Args:
        notes: The pipe; -1 is none.
        pid: The process. Its descendants may outlive the worker as well.
    """
    process = procs.look_at(pid) if notes >= 0 else None
    if process is not None:
        try:
            os.write(notes, note_left(pid, process.started))
        except OSError:  # nobody reads, and the pipe is full: the guardian is dead or stopped
            return


BYE = b"bye\n"


def tell_idle(notes: int) -> None:
    """Have the guardian leave with the only worker it has, which has nothing to do; -1 is no guardian."""
    if notes >= 0:
        try:
            os.write(notes, note_gone(os.getpid()) + BYE)
        except OSError:  # as above
            return


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
            try:
                self._take(line)
            except (ValueError, LookupError):  # it is no note: somebody else has found the pipe
                continue

    def _take(self, line: bytes) -> None:
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


def start(notes: int, alive: int, host: int, others: "tuple[int, ...]" = ()) -> None:
    """Fork a guardian, and return in the caller. It is no child of this process, which must not be a subreaper yet.

    Args:
        notes: The reading end of the pipe.
        alive: A pipe to the host. The guardian says its pid there, and lets go of it when it dies.
        host: The pid of the host.
        others: The descriptors of this process, beside the standard streams, that the guardian must not keep.
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
            _let_go(others)
            _guard(notes, alive, host)
    finally:
        os._exit(0)


def _let_go(others: "tuple[int, ...]") -> None:
    """Keep nothing of this process, nor of its place in the world."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    for fd in (null, *others):
        os.close(fd)
    try:
        with open("/proc/self/comm", "w") as name:  # for people who look at processes
            name.write("cmdpool-guard")
    except OSError:
        return


def _guard(pipe: int, alive: int, host: int) -> None:
    """Read notes until nobody is left who could write one, and sweep up if nobody has said that all is well."""
    try:
        os.write(alive, b"%d\n" % os.getpid())
    except OSError:  # nobody listens: the host is dead already
        host = -1
    notes, lives = Notes(), Lives(host)
    if host > 0:
        lives.watch(host)
    while lives.wait(pipe):
        data = os.read(pipe, 65536)
        if not data:
            break
        notes.feed(data)
        if notes.all_is_well:
            return
        for pid in notes.workers:
            lives.watch(pid)
    sweep(notes)


class Lives:
    """The lives of the host and of workers, as pidfds show them.

    The pipe alone might not end: a program that hangs in the middle of its `exec`, on a file system that does not
    answer, still has it open. Where there are no pidfds (before Linux 5.3), its end has to do.

    A worker that is still there some time after its host cannot act: it is stopped by a tracer, or frozen. It is
    killed, which a tracer cannot prevent (ptrace(2)).

    Args:
        host: The pid of the host; -1 if it is dead.
    """

    def __init__(self, host: int) -> None:
        self._host = host
        self._kill_at = -1.0  # when workers without a host are killed; -1: not yet known, or done
        self._has_killed = False
        self._pidfds: dict[int, int] = {}  # by pid, of those that live
        self._are_all_known = True

    def watch(self, pid: int) -> None:
        """Know when a process dies. Harmless when repeated."""
        if pid in self._pidfds:
            return
        try:
            self._pidfds[pid] = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        except (OSError, AttributeError):
            self._are_all_known = False

    def wait(self, pipe: int) -> bool:
        """Wait until there is something to read in a pipe, or until nobody lives any more; whether there is."""
        while True:
            poll = select.poll()
            for fd in (pipe, *self._pidfds.values()):
                poll.register(fd, select.POLLIN)
            are_over = self._are_all_known and not self._pidfds
            ready = [fd for fd, _ in poll.poll(0 if are_over else self._patience())]
            if pipe in ready or are_over:
                return pipe in ready
            for pid, fd in list(self._pidfds.items()):
                if fd in ready:
                    os.close(fd)
                    del self._pidfds[pid]

    def _patience(self) -> "float | None":
        """Milliseconds to wait; `None` for ever. Kills the workers whose time is over."""
        if self._host in self._pidfds or self._has_killed or not self._are_all_known:
            return None
        now = time.monotonic()
        if self._kill_at < 0:
            self._kill_at = now + ORPHANS_LEAVE_AFTER
        if now >= self._kill_at:
            self._has_killed = True
            for fd in self._pidfds.values():
                try:
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                except OSError:  # gone, or not this user's any more
                    continue
            return None
        return (self._kill_at - now) * 1000


def sweep(notes: Notes) -> None:
    """End whatever the workers that were noted have left, but for what may stay. Blocks."""
    for worker in notes.workers.values():
        if worker.group:
            cgroup.kill(worker.group)
    sessions = {pid: worker.started for pid, worker in notes.workers.items() if not _is_another(pid, worker.started)}
    cookies = tuple(worker.cookie for worker in notes.workers.values())  # whatever has been made of the rest of a mark

    def belongs(process: procs.Process) -> "bool | None":
        if process.session in sessions and process.started >= sessions[process.session]:
            return True
        marks = procs.marks_of(process.pid)
        return None if marks is None else any(mark.startswith(cookies) for mark in marks)

    deadline = time.monotonic() + SWEEP_FOR
    while time.monotonic() < deadline:
        roundup = Roundup(belongs, lambda process: notes.left.get(process.pid) == process.started)
        while roundup.step() and time.monotonic() < deadline:
            _hurry()
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
