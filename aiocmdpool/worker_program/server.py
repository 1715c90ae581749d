"""The loop of a worker: takes requests, starts programs, sees exits, replies.

    requests ── start ── Run ── exit (SIGCHLD) ── reap ── reply
                          └── output, deadlines

One thread and one `dispatch` a turn. Nothing in here blocks but `posix_spawn`, for as long as a start takes.
"""

import os
import signal
import time
from _collections import deque  # type: ignore[import-not-found]  # see channel.py

from . import frames, messages, procs
from .channel import Channel
from .messages import Start
from .poller import Poller
from .run import Run, own_peak
from .spawn import Spawner, StartFailure
from .timers import Timers

WATCH_AFTER = 0.005  # seconds; a program that ends before needs no look at its pipes until then, and no STARTED
FLUSH_EVERY = 4  # turns of the loop while requests wait: fewer wake-ups of the parent, for replies a little later
LOUD_PROGRAMS = 1000  # names remembered
LEAVE_ATTEMPTS = 200  # looks at what is left, 5 ms apart
ORPHANED_GRACE = 0.4  # seconds between TERM and KILL once the parent is gone
monotonic = time.monotonic


class Server:
    """Serves one parent until that says CLOSE, or is gone.

    Args:
        socket_fd: The socket over which descriptors come and go.
        cookie: Names this worker in the environment of what it starts.
        parent: The pid of the parent.
        environment: That of the parent when it started this worker.
    """

    def __init__(self, socket_fd: int, cookie: bytes, parent: int, environment: "dict[bytes, bytes]") -> None:
        self._poller = Poller()
        self._timers = Timers()
        self._channel = Channel(self._poller, socket_fd, self._receive, self._parent_is_gone)
        self._cookie = cookie
        self._spawner = Spawner(self._take_signals(), self._cookie, environment)
        self._requests: deque[tuple[int, Start, list[int]]] = deque()
        self._runs: dict[int, Run] = {}  # by request id, until the reply
        self._leaders: dict[int, Run] = {}  # by pid, until reaped
        self._settling: set[Run] = set()  # reaped, and not yet replied
        self._young: deque[tuple[float, Run]] = deque()  # not watched yet, oldest first
        self._children = procs.Children()
        self._closing = self._orphaned = False
        self._turns_unflushed = 0
        self._loud: set[bytes] = set()  # programs that wrote much when they last ran
        self._parent_fd = -1
        self._floor = own_peak()
        self._watch_parent(parent)

    def serve(self) -> None:
        """Serve until there is nothing more to do."""
        self._channel.send(frames.encode(frames.HELLO, 0, messages.pack_hello(frames.PROTOCOL_VERSION, os.getpid())))
        try:
            while not self._turn():
                pass
        finally:  # whatever happened, nothing stays
            self._kill_all()
            self._leave()

    def _turn(self) -> bool:
        """One turn of the loop; whether it is time to leave."""
        self._turns_unflushed += 1
        if len(self._requests) < 2 or self._turns_unflushed >= FLUSH_EVERY or self._channel.congested:
            self._channel.flush()
            self._turns_unflushed = 0
        if self._closing and not self._runs and not self._requests and (self._orphaned or self._channel.idle):
            return True
        self._poller.dispatch(self._patience())
        self._timers.fire()
        self._watch_the_grown()
        if self._requests and not self._channel.congested:
            self._start(*self._requests.popleft())
        return False

    def _patience(self) -> float:
        """Seconds to wait for events; -1 for ever."""
        if self._requests and not self._channel.congested:
            return 0
        wait = self._timers.wait()
        if self._young:
            grown = max(0.0, self._young[0][0] - monotonic())
            wait = grown if wait < 0 else min(wait, grown)
        return wait

    # -- requests ---------------------------------------------------------------------------------------------------

    def _receive(self, kind: int, number: int, payload: bytes) -> None:
        if kind == frames.START:
            request = messages.unpack_start(payload)
            descriptors = []
            if request.descriptors:
                descriptors = self._channel.receive_descriptors(number, request.descriptors)
            self._requests.append((number, request, descriptors))
        elif kind == frames.CANCEL:
            self._cancel(number, payload[0])
        elif kind == frames.PING:
            self._channel.send(frames.encode(frames.PONG, number))
        elif kind == frames.CLOSE:
            self._closing = True

    def _start(self, number: int, request: Start, descriptors: "list[int]") -> None:
        try:
            run = Run(
                number,
                request,
                descriptors,
                self._spawner,
                self._poller,
                self._timers,
                self._reply,
                self._children.visible,
            )
        except StartFailure as failure:
            self._refuse(number, failure.number, failure.stage)
            return
        self._runs[number] = self._leaders[run.pid] = run
        if request.argv[0] in self._loud:  # it would fill its pipe and wait
            run.watch()
        self._young.append((run.started_at + WATCH_AFTER, run))

    def _refuse(self, number: int, error: int, stage: str) -> None:
        self._channel.send(frames.encode(frames.FAILED, number, messages.pack_failed(error, stage)))

    def _cancel(self, number: int, reason: int) -> None:
        run = self._runs.get(number)
        if run is not None:
            run.end(reason)
            return
        for request in self._requests:
            if request[0] == number:
                self._requests.remove(request)
                for fd in request[2]:
                    os.close(fd)
                self._refuse(number, 0, "cancelled")
                return

    def _watch_the_grown(self) -> None:
        """Programs that did not end at once: read their output as it comes, and tell the parent their pids."""
        young = self._young
        now = monotonic()
        while young and (young[0][1].done or young[0][0] <= now):
            run = young.popleft()[1]
            if not run.done:
                run.watch()
                self._channel.send(frames.encode(frames.STARTED, run.number, messages.pack_pid(run.pid)))

    # -- exits ------------------------------------------------------------------------------------------------------

    def _reap(self, _: int) -> None:
        """Children have exited: programs, or processes that lost their parents and came to this one."""
        os.read(self._wakeup, 4096)
        exits = []
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            run = self._leaders.pop(pid, None)
            if run is not None:
                exits.append((run, status, usage))
        strays = self._strays()
        for run in list(self._settling):
            run.settle_down(strays.get(run, []))
        for run, status, usage in exits:
            self._settling.add(run)
            run.exited(status, usage, strays.get(run, []))

    def _strays(self) -> "dict[Run, list[procs.Process]]":
        """Living children that are not programs of ours: what lost its parent, by the run it belongs to.

        They come here because this process is their subreaper (prctl(2)).
        """
        children = self._children.more_than(len(self._leaders))
        if not children:
            return {}
        strays: dict[Run, list[procs.Process]] = {}
        by_leader = {run.pid: run for run in self._runs.values()}
        for pid in map(int, children):
            process = procs.look_at(pid) if pid not in self._leaders else None
            if process is not None:
                run = by_leader.get(process.group) or self._run_by_cookie(pid)
                if run is None and len(self._runs) == 1:  # it does not say; but whose else can it be?
                    run = next(iter(self._runs.values()))
                if run is not None:
                    strays.setdefault(run, []).append(process)
        return strays

    def _run_by_cookie(self, pid: int) -> "Run | None":
        """The run that the environment of a process names; one that has been replied to already is a late find."""
        for cookie in procs.cookies_of(pid):
            name, _, number = cookie.rpartition(b":")
            if name == self._cookie and number.isdigit():
                run = self._runs.get(int(number))
                if run is None:
                    _kill(pid)
                return run
        return None

    def _kill_children(self) -> None:
        """No program is left, so whatever is a child now has been left behind by one."""
        for pid in self._children.more_than(0):
            _kill(int(pid))

    def _leave(self) -> None:
        """Take along whatever is still there; what dies hands its own children over, so look again."""
        for _ in range(LEAVE_ATTEMPTS):
            self._kill_children()
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return
            time.sleep(0.005)

    def _reply(self, run: Run) -> None:
        """A run is over."""
        self._settling.discard(run)
        del self._runs[run.number]
        if not self._runs and not self._leaders:
            self._kill_children()
        self._note_loudness(run)
        failure = run.failure()
        outcome = run.outcome(self._floor)
        error = run.output_error()
        spools = run.spools()
        if failure is not None or error:
            for fd in spools:
                os.close(fd)
            self._refuse(run.number, *(failure or (error, "output")))
            return
        frame = frames.encode(frames.EXIT, run.number, messages.pack_exit(outcome))
        if spools:
            self._channel.send_with_descriptors(run.number, spools, frame)
        else:
            self._channel.send(frame)

    def _note_loudness(self, run: Run) -> None:
        program = run.request.argv[0]
        if not run.spools():
            self._loud.discard(program)
        elif len(self._loud) < LOUD_PROGRAMS:
            self._loud.add(program)

    # -- signals and the parent -------------------------------------------------------------------------------------

    def _take_signals(self) -> "list[int]":
        """Make SIGCHLD wake the loop, and live through what is meant for the parent: it decides when this worker ends.

        Returns:
            The signals to reset for programs.
        """
        self._wakeup, wakeup_end = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(wakeup_end, False)
        signal.set_wakeup_fd(wakeup_end, warn_on_full_buffer=False)
        self._poller.watch(self._wakeup, self._reap)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        reset: list[int] = [signal.SIGPIPE, signal.SIGXFSZ]
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # ignored by the parent (nohup): so it stays
                signal.signal(number, signal.SIG_IGN)
                reset.append(number)
        return reset

    def _watch_parent(self, parent: int) -> None:
        """See the death of the parent even where somebody else holds the other end of the pipe open."""
        if hasattr(os, "pidfd_open"):
            try:
                self._parent_fd = os.pidfd_open(parent)
                self._poller.watch(self._parent_fd, lambda _: self._parent_is_gone())
            except OSError:  # then the end of the pipe has to do
                self._parent_fd = -1
        if os.getppid() != parent:
            self._parent_is_gone()

    def _parent_is_gone(self) -> None:
        """Nobody waits for replies any more: end everything, and leave."""
        if self._orphaned:
            return
        self._orphaned = self._closing = True
        if self._parent_fd >= 0:
            self._poller.forget(self._parent_fd)
        self._channel.abandon()
        for _, _, descriptors in self._requests:
            for fd in descriptors:
                os.close(fd)
        self._requests.clear()
        for run in list(self._runs.values()):
            run.end(messages.CLOSED, min(run.request.grace, ORPHANED_GRACE))
        self._timers.add(ORPHANED_GRACE, self._kill_all)

    def _kill_all(self) -> None:
        for run in self._leaders.values():
            run.kill()


def _kill(pid: int) -> None:
    """Kill a child; it is not reaped yet, so the number is its own."""
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return  # somebody else's (setuid)
