"""`Run`: one command in the worker, from its start to its reply.

    start ── running ── first reason: exit, deadline, limit, cancel ── exited ── nothing left, pipes drained ── reply

The worker's loop drives a `Run`: each method records a fact or takes the next step, and none waits. `ending.py` decides
about the next step on the way to the end.
"""

import errno
import os
import time

from .. import ending
from ..ending import Ending
from ..kernel import processes as procs
from ..kernel import procfs
from ..kernel.signals import signal
from ..loop.poller import Poller
from ..loop.timers import Timer, Timers
from ..wire import messages
from ..wire.messages import Start
from .forked import Report
from .leftovers import MANY, Leftovers
from .output import Output
from .shim import ENDED
from .spawn import Spawner
from .strays import Strays

TYPE_CHECKING = False  # `typing` takes 7 ms to import
if TYPE_CHECKING:
    from collections.abc import Callable

EXEC_TIMEOUT = 0.5  # seconds that a deadline waits for a child before its exec
NAMED = 20  # processes named in a message

monotonic = time.monotonic


class Run:
    """A started command. `finished(run)` is called once, when it is over and, as far as is visible, nothing is left."""

    __slots__ = (
        "_deadline",
        "_finished",
        "_idle",
        "_is_overdue",
        "_last_output",
        "_leftovers",
        "_look",
        "_open",
        "_poller",
        "_step_timer",
        "_strays",
        "_timers",
        "_watched",
        "done",
        "ending",
        "failure",
        "has_grown",
        "has_shim",
        "held",
        "is_detached",
        "is_reaped",
        "leaked",
        "left_alone",
        "number",
        "number_kept",
        "outputs",
        "pid",
        "reason",
        "report",
        "request",
        "started_at",
        "status",
        "stderr",
        "stdout",
        "tier",
        "usage",
    )

    def __init__(
        self,
        number: int,
        request: Start,
        descriptors: "list[int]",
        spawner: Spawner,
        poller: Poller,
        timers: Timers,
        strays: Strays,
        look: "Callable[[], None]",
        finished: "Callable[[Run], None]",
    ) -> None:
        self.number, self.request = number, request
        self.started_at = monotonic()
        spawned = spawner.start(request, number, descriptors)
        self.pid, self.has_shim = spawned.pid, spawned.has_shim
        """Id of its process group: the pid of the program, or of the shim that is the program's parent."""
        self.is_detached = request.flags & messages.DETACH != 0
        """Whether the command may leave processes behind (`detach`)."""
        self.report = Report(spawned, spawner, poller) if spawned.report >= 0 else None
        """Reports of a forked child; `None` if there was no fork."""
        self.failure: tuple[int, str] | None = None
        """Errno and stage of a failure, if there is no result: a forked child could not exec, or see `break_off`."""
        self.is_reaped = False
        """Whether the group leader has been reaped, so that its pid may belong to another process."""
        self.has_grown = False
        """Whether the run has lasted long enough for the parent to be told of its start."""
        limit, policy = request.max_output, request.policy
        self.stdout = Output(spawned.stdout, limit, policy) if spawned.stdout >= 0 else None
        self.stderr = Output(spawned.stderr, limit, policy) if spawned.stderr >= 0 else None
        self.outputs = [output for output in (self.stdout, self.stderr) if output is not None]
        self._open = len(self.outputs)  # number of pipes that are open
        self._poller, self._timers, self._strays = poller, timers, strays
        self._look, self._finished = look, finished
        self.ending = Ending(request.grace, request.leftover_grace)
        self._step_timer: Timer | None = None
        self.reason = -1
        self.done = self._watched = self._is_overdue = False
        self._leftovers: Leftovers | None = None  # made when there may be any
        self.leaked: dict[int, bytes] = {}
        """Names of processes that the run has left, by pid."""
        self.left_alone: set[int] = set()
        self.number_kept = True
        """Whether the group id is certainly still that of this run."""
        self.tier = messages.NOTHING
        """How far from the program the processes were that had to be killed."""
        self.held = ""
        """The stage of a forked child when it was ended."""
        self._deadline = timers.add(request.timeout, self._timed_out, self) if request.timeout >= 0 else None
        self._idle: Timer | None = None
        if request.idle_timeout >= 0 and self.outputs:
            self._expect_output()

    # -- while it runs ----------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Read the output as it comes from now on. A program that ends soon does not need that."""
        if not self._watched:
            self._watched = True
            for output in self.outputs:
                if output.fd >= 0:
                    self._poller.watch(output.fd, lambda _, output=output: self._readable(output), owner=self)

    def _readable(self, output: Output) -> None:
        self._last_output = monotonic()
        output.read()
        self._look_at(output)
        if self.ending.exited_at >= 0:
            self._step()

    def _look_at(self, output: Output) -> None:
        """Close the stream if it has ended, and end the run if it exceeded its limit or failed."""
        if output.ended:
            self._close(output)
        if output.exceeded or output.error:
            self.end(messages.OUTPUT_LIMIT)

    def _close(self, output: Output) -> None:
        if output.fd >= 0:
            if self._watched:
                self._poller.forget(output.fd)
            output.close()
            self._open -= 1

    def _timed_out(self) -> None:
        """End the run at its deadline; a child before its exec has a moment more to become the program or to report."""
        left = self.started_at + EXEC_TIMEOUT - monotonic()
        if left > 0 and not self.note_exec():
            self._is_overdue = True
            self._deadline = self._timers.add(left, self._timed_out, self)
        elif self.failure is None:
            self.end(messages.TIMEOUT)

    def _expect_output(self) -> None:
        """End the run when it writes nothing for `idle_timeout` seconds, from now on."""
        self._last_output = self.started_at
        self._idle = self._timers.add(self.request.idle_timeout, self._check_idle, self)
        self.watch()

    def _check_idle(self) -> None:
        now = monotonic()
        if not self.note_exec() and now < self.started_at + EXEC_TIMEOUT:
            self._last_output = now  # there is no program yet that could write
        silent = now - self._last_output
        if silent >= self.request.idle_timeout:
            self.end(messages.IDLE_TIMEOUT)
        else:
            self._idle = self._timers.add(self.request.idle_timeout - silent, self._check_idle, self)

    @property
    def program_pid(self) -> int:
        """Return the pid of the program itself, not that of its shim."""
        return self.pid if self.report is None or not self.has_shim else self.report.program_pid

    @property
    def announces(self) -> bool:
        """Return whether the parent wants to know at once when the program runs."""
        return self.request.flags & messages.ANNOUNCE != 0

    @property
    def has_begun(self) -> bool:
        """Return whether the process has become the program."""
        return self.failure is None and (self.report is None or self.report.began or self.report.fd < 0)

    @property
    def has_exited(self) -> bool:
        """Return whether the program has exited, as far as is known here."""
        return self.ending.exited_at >= 0

    def may_be_older_than(self, process: procs.Process) -> bool:
        """Return whether `process` is young enough to have been started by this run."""
        return procs.started_since(process, self.started_at)

    # -- its end ----------------------------------------------------------------------------------------------------

    def end(self, reason: int, grace: float = -1.0) -> None:
        """End the run with `reason`, unless it has one already.

        Args:
            reason: Number of the end reason.
            grace: Seconds between the stop signal and SIGKILL; negative for those of the command.
        """
        if self.reason >= 0:
            return
        self.reason = reason
        self.tier = messages.GROUP
        if self.has_shim and not self.is_reaped:
            os.kill(self.pid, ENDED)
        if self.report is not None and not self.report.read(self):  # not the program yet: a file system does not answer
            self.held = self.report.stage
        self.ending.end(grace, held=bool(self.held))
        self._step()

    def kill(self) -> None:
        """Kill all known processes of the run now, without any further grace."""
        self.ending.hurry()
        self._step()

    def break_off(self, why: str) -> None:
        """Kill the run at once and fail it, because of an internal error.

        Args:
            why: Description of the error, for people.
        """
        self.failure = (0, f"worker: {why}")
        self.reason = max(self.reason, messages.EXITED)
        self.ending.end(0.0)
        self.kill()

    def _step(self) -> None:
        """Take all steps that are due on the way to the end."""
        if self._step_timer is not None:
            self._step_timer.cancel()
            self._step_timer = None
        way, now = self.ending, monotonic()
        while True:
            left, in_group = (0, 0) if self._leftovers is None else self._leftovers.count()
            act = way.act(now, left, in_group, not self._open)
            if act == ending.CLOSE:
                self._finish()
                return
            if act == ending.NOTHING or act == ending.SWEEP:
                break
            if act == ending.ASK:
                self._strays.remember_tree(self)
                self.signal_all(self.request.stop_signal)
                self.signal_all(signal.SIGCONT)  # a stopped program handles the other only when it goes on
            elif act == ending.KILL:
                self._kill_group()
            elif act == ending.ASK_LEFT and self._leftovers is not None:
                self._leftovers.ask()
            else:
                self._give_up()
                return
        if act == ending.SWEEP and self._leftovers is not None:
            self._leftovers.sweep()
        if way.wake_at > now:
            self._step_timer = self._timers.add(way.wake_at - now, self._step_again, self)
        if way.exited_at >= 0:
            self.number_kept = False
            self.watch()

    def _step_again(self) -> None:
        """Take the next step, after letting the worker find what is left, which calls `end_leftovers`."""
        self._step_timer = None
        if self.ending.exited_at >= 0 and self._leftovers is not None and self._leftovers.may_change:
            self._look()
        if not self.done and self._step_timer is None:
            self._step()

    def signal_all(self, number: int) -> None:
        """Signal the group; just after a fork there may be no group yet, but only the child."""
        if not self.signal_group(number):
            self.send_signal(number)

    def _kill_group(self) -> None:
        self._strays.remember_tree(self)
        if not self.has_shim:
            self.signal_all(signal.SIGKILL)
            return
        for process in procs.descendants(self.pid, MANY):  # not the shim, which has to reap them
            process.kill()
        if self.program_pid == 0 and not self.is_reaped:  # the shim has not started the program yet
            os.kill(self.pid, signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """Send a signal to the program alone; harmless after it has been reaped."""
        if number not in signal.valid_signals():
            return
        if self.has_shim:
            program = procs.look_at(self.program_pid) if self.program_pid else None
            if program is not None and program.parent == self.pid:
                program.signal(number)
        elif self.ending.exited_at < 0:
            try:
                os.kill(self.pid, number)
            except PermissionError:  # it runs as another user
                return

    def signal_group(self, number: int) -> bool:
        """Signal the process group; return whether there is one, zombies included.

        Its id is not reused while its leader is not reaped or any member lives: the kernel frees a pid only when no
        task uses it as pid, group or session.
        """
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):  # EPERM: all of it runs as another user
            return False
        return True

    # -- after its exit ---------------------------------------------------------------------------------------------

    def exited(  # type: ignore[no-untyped-def]
        self, status: int, usage, strays: "list[procs.Process]", more_may_come: bool
    ) -> None:
        """Note that the program has exited: read the rest of its output and take the next steps.

        Args:
            status: Wait status as from wait(2).
            usage: A `struct_rusage`.
            strays: Known living processes of this run that have left its group.
            more_may_come: Whether there may be more: see `end_leftovers`.
        """
        self.ending.exited(monotonic())
        if not self._strays.visible:  # even if the rest of this fails
            self._leftovers = Leftovers(self, self._strays)
        self.status, self.usage = status, usage
        for timer in (self._deadline, self._idle):
            if timer is not None:
                timer.cancel()
        for output in self.outputs:
            while not output.ended and output.read(drain=True):
                pass
            if output.ended:
                self._close(output)
            if output.exceeded and self.reason < 0:  # too much output counts, however quickly it exited
                self.reason = messages.OUTPUT_LIMIT
        if self.reason < 0:
            self.reason = messages.EXITED
        self.end_leftovers(strays, more_may_come)

    def end_leftovers(self, strays: "list[procs.Process]", more_may_come: bool = False) -> None:
        """Take the next steps, given the strays that are left of the run.

        While a child is dying, more may come: its children are handed over during its death (exit_notify in the
        kernel's kernel/exit.c), after which the worker checks again.
        """
        if self._leftovers is None and (strays or more_may_come or self.has_shim or self._strays.doubts):
            self._leftovers = Leftovers(self, self._strays)
        if self._leftovers is not None:
            self._leftovers.found(strays, more_may_come)
        self._step()

    @property
    def detaches(self) -> bool:
        """Return whether the run may leave processes behind: it is detached, and has ended by itself."""
        return self.is_detached and self.reason == messages.EXITED and self.failure is None

    def _give_up(self) -> None:
        """Fail the run because of processes that cannot be killed, named unless they may be of another run."""
        returned = self.ending.exited_at >= 0
        if returned and (self._leftovers is None or not self._leftovers.certain):
            self._finish()
            return
        named = [] if self._leftovers is None else self._leftovers.names()
        if not returned:
            named.insert(0, b"%d %s" % (self.program_pid, procfs.name_of(self.program_pid)))
        names = b"\0".join(named[:NAMED]).decode(errors="backslashreplace")
        self.failure = self.reason << 1 | returned, f"unkillable {self.held}: {names}"
        self._finish()

    def _finish(self) -> None:
        if self.done:
            return
        if self._open:
            for output in self.outputs:
                if output.fd >= 0 and not self.leaked and not self.detaches and self.failure is None:
                    self.leaked.update(procs.pipe_holders(os.fstat(output.fd).st_ino))
        self.done = True
        self._finished(self)

    def close(self) -> None:
        """Close timers, pipes and the report, not the spools. Let go of what leads back here: see `Report.read`."""
        for timer in (self._step_timer, self._deadline, self._idle):
            if timer is not None:
                timer.cancel()
        self._step_timer = self._deadline = self._idle = self._leftovers = None
        if self._open:
            for output in self.outputs:
                self._close(output)
        if self.report is not None and self.report.fd >= 0:
            self.report.close()

    def note_exec(self) -> bool:
        """Read the reports of a forked child; return whether it has become the program or failed to."""
        return self.report is None or self.report.read(self)

    def note_end_of_words(self, says_exec: bool) -> None:
        """Handle the end of the child's reports: it has become the program, or died before that.

        Args:
            says_exec: Whether the child has reported `exec`.
        """
        if not says_exec and self.failure is None and self.reason in (-1, messages.EXITED):  # not ended here
            self.failure = errno.EIO, "silence"
        if self._is_overdue and self.failure is None:
            self.end(messages.TIMEOUT)
