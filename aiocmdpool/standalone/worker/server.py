"""`Server`: the loop of a worker, which takes requests, starts programs, sees their exits, and replies.

    requests ── start ── Run ── exit (SIGCHLD) ── reap ── reply
                          └── output, deadlines

One thread, one `dispatch` per iteration. Nothing in here blocks except `posix_spawn`, while a start lasts.
"""

import os
import sys
import time
from _collections import deque  # type: ignore[import-not-found]  # see channel.py

from ..kernel import cgroup
from ..kernel.signals import hear_only, signal
from ..kernel.transient import StartRetry
from ..loop.poller import Poller
from ..loop.timers import Timer, Timers
from ..wire import frames, messages
from ..wire.messages import Start
from .channel import Channel
from .replies import Replies
from .run import Run
from .spawn import Spawner, StartFailure
from .strays import Strays

WATCH_AFTER = 0.005  # seconds; a program that ends before needs neither reads of its pipes until then nor a STARTED
LOOK_AGAIN_AFTER = 0.005  # seconds; in the middle of an `exec`, a stray cannot be told from others
FLUSH_EVERY = 4  # iterations while requests wait: fewer wake-ups of the parent, for slightly later replies
ORPHANED_GRACE = 0.4  # seconds between TERM and KILL after the parent is gone
monotonic = time.monotonic


class Waiting:
    """A request that has not been started yet."""

    __slots__ = ("descriptors", "number", "retry", "start")

    def __init__(self, number: int, start: Start, descriptors: "list[int]") -> None:
        self.number = number
        self.start = start
        self.descriptors = descriptors
        self.retry: StartRetry | None = None

    def close(self) -> None:
        """Close the descriptors that came with the request."""
        for fd in self.descriptors:
            os.close(fd)


class Server:
    """Serves one parent until it sends CLOSE, or is gone.

    Args:
        socket_fd: The socket over which descriptors come and go.
        cookie: Mark of this worker in the environment of all that it starts.
        parent: The pid of the parent.
        environment: Environment of the parent when it started this worker.
        group: The directory of the control group that this worker is alone in, or empty.
        notes: The pipe to the guardian; -1 for none.
        idle_for: Seconds without a request after which it exits by itself; 0 for never.
    """

    def __init__(
        self,
        socket_fd: int,
        cookie: bytes,
        parent: int,
        environment: "dict[bytes, bytes]",
        group: str,
        notes: int = -1,
        idle_for: float = 0,
    ) -> None:
        self._poller = Poller(self._broken)
        self._timers = Timers(self._broken)
        self._channel = Channel(self._poller, socket_fd, self._receive, self._parent_is_gone)
        self._spawner = Spawner(self._take_signals(), cookie, environment)
        self._requests: deque[Waiting] = deque()
        self._postponed: dict[Waiting, Timer] = {}  # requests to start again later
        self._runs: dict[int, Run] = {}  # by request id, until the reply
        self._leaders: dict[int, Run] = {}  # by pid, until reaped
        self._strays = Strays(cookie, self._leaders, notes)
        self._settling: set[Run] = set()  # reaped, but not replied to
        self._unwatched: deque[tuple[float, Run]] = deque()  # not watched yet, oldest first
        self._group = group
        self._closing = self._orphaned = False
        self._second_look: Timer | None = None
        self._turns_unflushed = 0
        self._parent_fd = -1
        self._replies = Replies(self._channel, self._poller)
        self._answer = self._replies.answer
        self._large_output_programs = self._replies.large_output_programs
        self._idle_for = idle_for
        self._idle_since = monotonic()
        self.left_idle = False
        """Whether the worker exits because it is idle. Requests that are still in its pipe have not begun."""
        if idle_for > 0:
            self._timers.add(idle_for, self._leave_if_idle)
        self._watch_parent(parent)

    def serve(self) -> None:
        """Serve until there is nothing more to do, then kill all leftovers."""
        self._channel.send(frames.encode(frames.HELLO, 0, messages.pack_hello(frames.PROTOCOL_VERSION, os.getpid())))
        try:
            while not self._turn():
                pass
        finally:  # after an error, too, nothing is left running; a step that fails prevents no later one
            try:
                self._kill_all()
            finally:
                try:
                    self._strays.leave({pid for pid, run in self._leaders.items() if run.done})
                finally:
                    if self._group and cgroup.enter(os.path.dirname(self._group)):
                        cgroup.kill(self._group)

    def _turn(self) -> bool:
        """Run one iteration of the loop; return whether it is time to exit."""
        self._turns_unflushed += 1
        if len(self._requests) < 2 or self._turns_unflushed >= FLUSH_EVERY or self._channel.congested:
            self._channel.flush()
            self._turns_unflushed = 0
        if self._closing and self._has_nothing_to_do() and (self._orphaned or self._channel.idle):
            return True
        self._poller.dispatch(self._poll_timeout())
        self._timers.fire()
        self._watch_survivors()
        if self._requests and not self._channel.congested:
            self._start(self._requests.popleft())
        return False

    def _has_nothing_to_do(self) -> bool:
        return not self._runs and not self._requests and not self._postponed and not self._replies.pours

    def _leave_if_idle(self) -> None:
        """Exit, unless there is something to do, or was within the last `idle_for` seconds."""
        if not self._has_nothing_to_do():
            self._idle_since = monotonic()
        left = self._idle_since + self._idle_for - monotonic()
        if left > 0:
            self._timers.add(left, self._leave_if_idle)
        elif not self._closing:
            self.left_idle = self._closing = True

    def _poll_timeout(self) -> float:
        """Return the seconds to wait for events; -1 for no limit."""
        if self._requests and not self._channel.congested:
            return 0
        wait = self._timers.wait()
        if self._unwatched:
            due = max(0.0, self._unwatched[0][0] - monotonic())
            wait = due if wait < 0 else min(wait, due)
        return wait

    # -- requests ---------------------------------------------------------------------------------------------------

    def _receive(self, kind: int, number: int, payload: bytes) -> None:
        if kind == frames.START:
            request = messages.unpack_start(payload)
            descriptors = []
            if request.descriptors:
                descriptors = self._channel.receive_descriptors(number, request.descriptors)
            self._requests.append(Waiting(number, request, descriptors))
        elif kind == frames.CANCEL:
            self._cancel(number, payload[0])
        elif kind == frames.SIGNAL:
            if number in self._runs:
                run = self._runs[number]
                self._guard(run, lambda: run.send_signal(payload[0]))
        elif kind == frames.PING:
            for run in list(self._leaders.values()):
                self._guard(run, lambda run=run: self._strays.remember_tree(run))
            self._channel.send(frames.encode(frames.PONG, number, messages.pack_held(self._held())))
        elif kind == frames.CLOSE:
            self._closing = True

    def _held(self) -> "list[int]":
        """Return the ids of the requests whose answers have not been sent."""
        waiting = [request.number for request in (*self._requests, *self._postponed)]
        return [*waiting, *self._runs, *self._channel.held()]

    def _start(self, request: Waiting) -> None:
        number, start = request.number, request.start
        try:
            run = Run(
                number,
                start,
                request.descriptors,
                self._spawner,
                self._poller,
                self._timers,
                self._strays,
                self._look,
                self._reply,
            )
        except StartFailure as failure:
            self._could_not_start(request, failure)
            return
        except Exception as error:  # an unexpected request must not end the others
            request.close()
            self._replies.refuse(number, 0, f"worker: {_warn(error)}")
            return
        request.close()
        self._runs[number] = self._leaders[run.pid] = run
        if run.report is not None:
            self._poller.watch(run.report.fd, lambda _: self._note_exec(run), owner=run)
        elif start.flags & messages.ANNOUNCE:
            self._announce(run)
        if start.argv[0] in self._large_output_programs:  # it would fill its pipe and wait
            run.watch()
        self._unwatched.append((run.started_at + WATCH_AFTER, run))

    def _could_not_start(self, request: Waiting, failure: StartFailure) -> None:
        """Start a request again soon if the failure may pass by itself; report the failure otherwise."""
        request.retry = request.retry or StartRetry()
        delay = request.retry.delay(failure.number)
        if delay >= 0:
            self._postponed[request] = self._timers.add(delay, lambda: self._try_again(request))
        else:
            request.close()
            self._replies.refuse(request.number, failure.number, failure.stage)

    def _try_again(self, request: Waiting) -> None:
        del self._postponed[request]
        self._requests.append(request)

    def _cancel(self, number: int, reason: int) -> None:
        run = self._runs.get(number)
        if run is not None:
            self._guard(run, lambda: run.end(reason))
            return
        for request in (*self._requests, *self._postponed):
            if request.number == number:
                self._withdraw(request)
                self._replies.refuse(number, 0, "cancelled")
                return

    def _withdraw(self, request: Waiting) -> None:
        """Drop a request that is not to be started any more."""
        request.close()
        timer = self._postponed.pop(request, None)
        if timer is None:
            self._requests.remove(request)
        else:
            timer.cancel()

    def _watch_survivors(self) -> None:
        """Watch programs that did not end at once: read their output as it comes, and announce their pids."""
        unwatched = self._unwatched
        now = monotonic()
        while unwatched and (unwatched[0][1].done or unwatched[0][0] <= now):
            run = unwatched.popleft()[1]
            if not run.done:
                self._guard(run, lambda run=run: self._note_survival(run))

    def _note_survival(self, run: Run) -> None:
        run.watch()
        self._strays.remember_tree(run)
        run.has_grown = True
        if run.has_begun and not run.announces:
            self._announce(run)

    def _note_exec(self, run: Run) -> None:
        """Read a forked child's reports, announce its start, and note the exit that a shim reports."""
        report = run.report
        if report is None or report.fd < 0:
            return
        had_begun = run.has_begun
        if report.read(run) and not had_begun and run.failure is None and (run.announces or run.has_grown):
            self._announce(run)
        if report.exit_said is not None and not run.has_exited and not run.done:
            self._settling.add(run)
            run.exited(*report.exit_said, [], False)

    def _announce(self, run: Run) -> None:
        self._channel.send(frames.encode(frames.STARTED, run.number, messages.pack_pid(run.program_pid)))

    # -- exits ------------------------------------------------------------------------------------------------------

    def _reap(self, _: int) -> None:
        """Handle the exit of children: programs, or orphans that this process has adopted."""
        try:
            os.read(self._wakeup, 4096)
        except BlockingIOError:  # another check has read it
            return
        self._look()

    def _look(self) -> None:
        """Reap children that have exited, and tell each run what is left of it."""
        exits: list[tuple[Run, int, object]] = []
        self._collect(exits)
        exited = {run for run, _, _ in exits}
        strays, dying = self._strays.by_run(self._runs, exited)
        while dying and self._collect(exits):  # one that was dying may be dead by now
            exited = {run for run, _, _ in exits}
            strays, dying = self._strays.by_run(self._runs, exited)
        for run in list(self._settling):
            try:
                run.end_leftovers(strays.get(run, []), self._strays.more_may_come(run))
            except Exception as error:
                self._broken(run, error)
        for run, status, usage in exits:
            if run.done:  # given up or broken off, so nobody waits for it
                continue
            self._settling.add(run)
            try:
                if run.has_shim:  # the shim has reported the program's exit before, unless it was killed
                    self._note_exec(run)
                    if run.has_exited:
                        run.end_leftovers(strays.get(run, []), self._strays.more_may_come(run))
                        continue
                    if run.failure is None:
                        run.failure = 0, "worker: its shim has died before the program was known to have ended"
                run.exited(status, usage, strays.get(run, []), self._strays.more_may_come(run))
            except Exception as error:
                self._broken(run, error)
        if self._strays.undecided and self._second_look is None:
            self._second_look = self._timers.add(LOOK_AGAIN_AFTER, self._look_again)

    def _look_again(self) -> None:
        self._second_look = None
        self._look()

    def _guard(self, run: Run, act) -> None:  # type: ignore[no-untyped-def]
        """Call `act` for a run; an exception ends this run alone."""
        try:
            act()
        except Exception as error:
            self._broken(run, error)

    def _broken(self, run: Run, error: Exception) -> None:
        """End a run for which something has raised, with an error that says so."""
        why = _warn(error)
        if run.done:
            return
        if run.failure is None:
            try:
                run.break_off(why)
                return
            except Exception as another:
                _warn(another)
        run.failure = (0, f"worker: {why}")
        run.done = True
        run.signal_group(signal.SIGKILL)  # not reaped yet, or it would be done
        self._reply(run)

    def _collect(self, exits: "list[tuple[Run, int, object]]") -> bool:
        """Reap all children that have exited; return whether there was one."""
        anybody = False
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return anybody
            if not pid:
                return anybody
            anybody = True
            if os.WIFSTOPPED(status):
                if pid in self._leaders and self._leaders[pid].has_shim:  # it must go on, to see the exit
                    os.kill(pid, signal.SIGCONT)
                continue
            run = self._leaders.pop(pid, None)
            if run is not None:
                run.is_reaped = True
                exits.append((run, status, usage))
            else:
                self._strays.reaped(pid)

    def _reply(self, run: Run) -> None:
        """Answer a run that is over, and forget it."""
        self._settling.discard(run)
        self._runs.pop(run.number, None)
        if run.has_shim and run.detaches and self._leaders.pop(run.pid, None) is not None:
            self._strays.leave_alone(run.pid)  # it stays as long as anything is left below it
        self._strays.over(run)
        if not self._runs and not self._leaders:
            self._strays.kill()
        try:
            self._idle_since = monotonic()
            if run.report is not None and run.report.fd >= 0:
                self._note_exec(run)
            self._answer(run)
        except Exception as error:  # the parent must get an answer in any case
            self._replies.refuse(run.number, 0, f"worker: {_warn(error)}")

    # -- signals and the parent -------------------------------------------------------------------------------------

    def _take_signals(self) -> "list[int]":
        """Make SIGCHLD wake the loop, and live through every other: the parent decides when this worker ends.

        Returns:
            The signals to reset for programs.
        """
        self._wakeup, wakeup_end = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(wakeup_end, False)
        signal.set_wakeup_fd(wakeup_end, warn_on_full_buffer=False)
        self._poller.watch(self._wakeup, self._reap)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else the parent ignores it (nohup)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # for what is forked
        hear_only(signal.SIGCHLD)
        return [signal.SIGPIPE, signal.SIGXFSZ]  # CPython ignores these, so programs would inherit that

    def _watch_parent(self, parent: int) -> None:
        """Watch for the death of the parent, even if another process holds the other end of the pipe open."""
        if hasattr(os, "pidfd_open"):
            try:
                self._parent_fd = os.pidfd_open(parent)
                self._poller.watch(self._parent_fd, lambda _: self._parent_is_gone())
            except OSError:  # the end of the pipe has to do
                self._parent_fd = -1
        if os.getppid() != parent:
            self._parent_is_gone()

    def _parent_is_gone(self) -> None:
        """End everything and exit, because nobody waits for replies any more."""
        if self._orphaned:
            return
        self._orphaned = self._closing = True
        if self._parent_fd >= 0:
            self._poller.forget(self._parent_fd)
        self._channel.abandon()
        for request in (*self._requests, *self._postponed):
            self._withdraw(request)
        for run in list(self._runs.values()):
            grace = min(run.request.grace, ORPHANED_GRACE)
            self._guard(run, lambda run=run, grace=grace: run.end(messages.CLOSED, grace))
        self._timers.add(ORPHANED_GRACE, self._kill_all)

    def _kill_all(self) -> None:
        for run in list(self._runs.values()):
            self._guard(run, run.kill)


def _warn(error: Exception) -> str:
    """Write the traceback of an error to stderr, whose end the parent keeps; return the error as one line."""
    sys.excepthook(type(error), error, error.__traceback__)
    return f"{type(error).__name__}: {error}"
