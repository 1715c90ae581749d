"""The guardian of some workers: ends what they leave when they and their parent are all killed at once.

    host ────┐ notes
    worker ──┼──────── one pipe ───▶ guardian        (no child of theirs, in a session of its own)
    worker ──┘

It only reads notes. Every writer holds the pipe open until it dies, and passes it to no program: so the pipe ends when
host and workers are dead. Unless a note has said before that all is well, the guardian then kills leftovers. A worker
forks it when it starts: Python is running by then, which takes ten times as long as the fork.

Notes are lines, each shorter than PIPE_BUF, so that notes of several writers do not mix (pipe(7)):

    worker PID STARTED COOKIE GROUP     it runs; its control group is a directory, or empty
    gone PID                            it is dead, and nothing of it is left
    left PID STARTED                    a process that a detached command was allowed to leave behind
    bye                                 all are gone
"""

import os
import select
import time

from .kernel import cgroup
from .kernel import processes as procs
from .kernel.roundup import Roundup
from .kernel.signals import hear_only, signal

NAME = b"cmdpool-guard"
LONGEST_NOTE = 4096  # bytes: PIPE_BUF of Linux
ORPHANS_LEAVE_AFTER = 2.0  # seconds; a healthy worker has ended everything, and exited, in less than one
SWEEP_FOR = 10.0  # seconds after which leftovers are left to the kernel
LOOK_AGAIN_AFTER = 0.002  # seconds
MAX_LEFT = 1000  # notes about leftovers kept before those about dead processes are dropped


def note_worker(pid: int, cookie: bytes, group: str) -> bytes:
    """Return the note that the worker `pid` has been started."""
    process = procs.look_at(pid)
    started = process.started if process is not None else 0
    head, directory = b"worker %d %d %s " % (pid, started, cookie), os.fsencode(group)
    fits = len(head) + len(directory) < LONGEST_NOTE and b"\n" not in directory
    return head + (directory if fits else b"") + b"\n"


def note_gone(pid: int) -> bytes:
    """Return the note that the worker `pid` has ended, and nothing of it is left."""
    return b"gone %d\n" % pid


def note_left(pid: int, started: int) -> bytes:
    """Return the note that a process, with all of its descendants, may outlive its worker."""
    return b"left %d %d\n" % (pid, started)


def tell_left(notes: int, pid: int) -> None:
    """Tell the guardian that the process `pid` may outlive its worker. Marks can be forged; only this note is trusted.

    Args:
        notes: The pipe for notes; -1 for none.
        pid: The process; its descendants may outlive the worker, too.
    """
    process = procs.look_at(pid) if notes >= 0 else None
    if process is not None:
        try:
            os.write(notes, note_left(pid, process.started))
        except OSError:  # nobody reads and the pipe is full: the guardian is dead or stopped
            return


BYE = b"bye\n"


def tell_idle(notes: int) -> None:
    """Have the guardian exit together with its only worker, which is idle; `notes` is -1 without a guardian."""
    if notes >= 0:
        try:
            os.write(notes, note_gone(os.getpid()) + BYE)
        except OSError:  # as above
            return


class Worker:
    """The facts about one worker, from its note in the pipe."""

    __slots__ = ("cookie", "group", "started")

    def __init__(self, started: int, cookie: bytes, group: str) -> None:
        self.started = started
        self.cookie = cookie
        self.group = group


class Notes:
    """The facts from all notes that have come through the pipe so far."""

    def __init__(self) -> None:
        self.workers: dict[int, Worker] = {}
        self.left: dict[int, int] = {}
        """Start times of the processes that may stay, by pid."""
        self.all_is_well = False
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Process the bytes `data` read from the pipe, line by line."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                self._take(line)
            except (ValueError, LookupError):  # no note: another process has found the pipe
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
        alive: A pipe to the host. The pid of the guardian is written there; the guardian closes it by dying.
        host: The pid of the host.
        others: Further descriptors of this process that the guardian must close.
    """
    try:
        middle = os.fork()
    except OSError:  # the limit on processes; the host sees that there is no guardian
        return
    if middle:
        os.waitpid(middle, 0)
        return
    try:
        os.setsid()
        guardian = os.fork()
        if guardian == 0:
            _let_go(others)
            _guard(notes, alive, host)
        os.write(alive, b"%d\n" % guardian)  # from here, so that the host can read it as soon as the worker runs
    finally:
        os._exit(0)


def _let_go(others: "tuple[int, ...]") -> None:
    """Drop what this process inherited: its directory, descriptors, signal handlers and name."""
    hear_only()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    for fd in (null, *others):
        os.close(fd)
    try:
        with open("/proc/self/comm", "w") as name:  # for people who look at processes
            name.write(NAME.decode())
    except OSError:
        return


def _guard(pipe: int, alive: int, host: int) -> None:
    """Read notes until nobody is left to write any, then kill leftovers unless a note said that all is well."""
    listened_to = select.poll()
    listened_to.register(alive, 0)
    if listened_to.poll(0):  # POLLERR: nobody listens, because the host is dead already
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
    """Watches the host and the workers by pidfds.

    The end of the pipe alone is not reliable: a program that hangs in the middle of its `exec`, on a file system that
    does not answer, still has it open. Without pidfds (before Linux 5.3) it has to do.

    A worker that still lives some time after its host cannot act: it is stopped by a tracer, or frozen. It is killed,
    which a tracer cannot prevent (ptrace(2)).

    Args:
        host: The pid of the host; -1 if it is dead.
    """

    def __init__(self, host: int) -> None:
        self._host = host
        self._kill_at = -1.0  # time at which workers without a host are killed; -1: not yet known, or done
        self._has_killed = False
        self._pidfds: dict[int, int] = {}  # of living processes, by pid
        self._are_all_known = True

    def watch(self, pid: int) -> None:
        """Watch the process `pid` until it dies. Harmless when repeated."""
        if pid in self._pidfds:
            return
        try:
            self._pidfds[pid] = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        except (OSError, AttributeError):
            self._are_all_known = False

    def wait(self, pipe: int) -> bool:
        """Wait for data in `pipe`, or for the death of all watched processes; return whether there is data."""
        while True:
            poll = select.poll()
            for fd in (pipe, *self._pidfds.values()):
                poll.register(fd, select.POLLIN)
            are_over = self._are_all_known and not self._pidfds
            ready = [fd for fd, _ in poll.poll(0 if are_over else self._poll_timeout())]
            if pipe in ready or are_over:
                return pipe in ready
            for pid, fd in list(self._pidfds.items()):
                if fd in ready:
                    os.close(fd)
                    del self._pidfds[pid]

    def _poll_timeout(self) -> "float | None":
        """Return the milliseconds to wait, `None` for no limit, after killing workers whose time is over."""
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
                except OSError:  # gone, or of another user by now
                    continue
            return None
        return (self._kill_at - now) * 1000


def sweep(notes: Notes) -> None:
    """Kill everything that the noted workers have left, except what may stay. Blocks."""
    for worker in notes.workers.values():
        if worker.group:
            cgroup.kill(worker.group)
    sessions = {pid: worker.started for pid, worker in notes.workers.items() if not _is_another(pid, worker.started)}
    cookies = tuple(worker.cookie for worker in notes.workers.values())  # the rest of a mark can be forged

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
    """Return whether the pid of a worker, and so perhaps its session id, was given to another process."""
    process = procs.look_at(pid)
    return process is not None and process.started != started


def _hurry() -> None:
    """Raise the priority of this process above that of the processes to be ended, if permitted."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        with open("/proc/self/autogroup", "w") as group:  # sched(7)
            group.write("-20")
    except OSError:
        return
