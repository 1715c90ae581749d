"""One command in the worker, from its start to its reply.

    start ── running ── first reason: exit, deadline, limit, cancel ── (stop signal, grace, KILL)
          ── exited ── sweep what is left, drain the pipes ── reply

A `Run` is driven by the worker's loop: each method notes a fact or takes the next step, none of them waits.
"""

import os
import resource
import signal
import time

from ..kernel import processes as procs
from ..loop.poller import Poller
from ..loop.timers import Timer, Timers
from ..wire import messages
from ..wire.messages import Exit, Start
from .output import Output
from .spawn import Spawner

TYPE_CHECKING = False  # `typing` takes 7 ms to import
if TYPE_CHECKING:
    from collections.abc import Callable

DRAIN_TIMEOUT = 0.25  # seconds for what is still in the pipes after the exit, when somebody else holds them
MAXRSS_UNIT = 1024 if os.uname().sysname == "Linux" else 1  # getrusage(2) counts kilobytes on Linux, bytes on macOS

monotonic = time.monotonic


class Run:
    """A started command. `finished(run)` is called once, when it is over and, as far as can be seen, nothing is left.

    Raises:
        StartFailure: It could not be started.
    """

    __slots__ = (
        "_deadline",
        "_exited_at",
        "_finished",
        "_grace",
        "_idle",
        "_last_output",
        "_leaked",
        "_left",
        "_more_may_come",
        "_number_kept",
        "_orphans_come_here",
        "_outputs",
        "_poller",
        "_reason",
        "_settling",
        "_status",
        "_tier",
        "_timers",
        "_usage",
        "_watched",
        "done",
        "failure",
        "left_alone",
        "number",
        "pid",
        "report",
        "request",
        "started_at",
        "stderr",
        "stdout",
    )

    def __init__(
        self,
        number: int,
        request: Start,
        descriptors: "list[int]",
        spawner: Spawner,
        poller: Poller,
        timers: Timers,
        finished: "Callable[[Run], None]",
        orphans_come_here: bool,
    ) -> None:
        self.number = number
        self.request = request
        self.started_at = monotonic()
        spawned = spawner.start(request, number, descriptors)
        self.pid = spawned.pid
        self.report = spawned.report
        self.failure: tuple[int, str] | None = None
        """What a forked child reported instead of becoming the program: errno and stage."""
        self.done = False
        limit, policy = request.max_output, request.policy
        self.stdout = Output(spawned.stdout, limit, policy) if spawned.stdout >= 0 else None
        self.stderr = Output(spawned.stderr, limit, policy) if spawned.stderr >= 0 else None
        self._outputs = [output for output in (self.stdout, self.stderr) if output is not None]
        self._poller = poller
        self._timers = timers
        self._finished = finished
        self._orphans_come_here = orphans_come_here
        self._reason = -1
        self._watched = False
        self._leaked: dict[int, bytes] = {}
        self._exited_at = 0.0
        self._settling: Timer | None = None
        self._left: list[procs.Process] = []
        self._more_may_come = False
        self.left_alone: set[int] = set()
        self._number_kept = True  # whether nobody else can have been given the number of its group
        self._tier = messages.NOTHING
        self._grace: Timer | None = None
        self._deadline = timers.add(request.timeout, self._timed_out) if request.timeout >= 0 else None
        self._idle: Timer | None = None
        if request.idle_timeout >= 0 and self._outputs:
            self._last_output = self.started_at
            self._idle = timers.add(request.idle_timeout, self._check_idle)
            self.watch()

    # -- while it runs ----------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Read its output as it comes from now on. A program that ends soon never needs that."""
        if not self._watched:
            self._watched = True
            for output in self._outputs:
                if output.fd >= 0:
                    self._poller.watch(output.fd, lambda _, output=output: self._readable(output))

    def _readable(self, output: Output) -> None:
        self._last_output = monotonic()
        output.read()
        self._look_at(output)
        if self._settling is not None:
            self._finish_if_settled()

    def _look_at(self, output: Output) -> None:
        """Draw the consequences of a read."""
        if output.ended:
            self._close(output)
        if output.exceeded or output.error:
            self.end(messages.OUTPUT_LIMIT)

    def _close(self, output: Output) -> None:
        if output.fd >= 0:
            if self._watched:
                self._poller.drop(output.fd)
            output.close()

    def _timed_out(self) -> None:
        self.end(messages.TIMEOUT)

    def _check_idle(self) -> None:
        silent = monotonic() - self._last_output
        if silent >= self.request.idle_timeout:
            self.end(messages.IDLE_TIMEOUT)
        else:
            self._idle = self._timers.add(self.request.idle_timeout - silent, self._check_idle)

    def end(self, reason: int, grace: float = -1.0) -> None:
        """End it for a reason; the first one counts.

        Args:
            reason: Why.
            grace: Seconds between the stop signal and KILL, if not those of the command.
        """
        if self._reason >= 0:
            return
        self._reason = reason
        self._tier = messages.GROUP
        self._signal_all(self.request.stop_signal)
        self._signal_all(signal.SIGCONT)  # a stopped program sees the other only when it goes on
        self._grace = self._timers.add(grace if grace >= 0 else self.request.grace, self.kill)

    def kill(self) -> None:
        """End it now, all of it that is known."""
        self._grace = None
        if self._exited_at:
            self.settle_down(self._left)
        else:
            self._signal_all(signal.SIGKILL)

    def _signal_all(self, number: int) -> None:
        """Signal the group; just after a fork there may be none yet, but the child alone."""
        if not self.signal_group(number):
            self.send_signal(number)

    def send_signal(self, number: int) -> None:
        """Signal the program alone; harmless once it has been reaped."""
        if not self._exited_at:
            try:
                os.kill(self.pid, number)
            except PermissionError:  # it runs as somebody else
                return

    def signal_group(self, number: int) -> bool:
        """Signal the process group; whether there is one, zombies included.

        Its number is not given to a new process while its leader is not reaped or any member lives: the kernel frees a
        pid only when no task uses it as pid, group or session.
        """
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):  # EPERM: all of it runs as somebody else
            return False
        return True

    # -- after its exit ---------------------------------------------------------------------------------------------

    def exited(  # type: ignore[no-untyped-def]
        self, status: int, usage, strays: "list[procs.Process]", more_may_come: bool
    ) -> None:
        """Its leader has been reaped.

        Args:
            status: As wait(2) gives it.
            usage: A `struct_rusage`.
            strays: Living processes of this run that have left its group, as far as they are known.
            more_may_come: Whether that is not all: see `settle_down`.
        """
        self._exited_at = monotonic()
        self._status, self._usage = status, usage
        for timer in (self._deadline, self._idle):
            if timer is not None:
                timer.cancel()
        for output in self._outputs:
            while not output.ended and output.read(drain=True):
                pass
            if output.ended:
                self._close(output)
            if output.exceeded and self._reason < 0:  # that it wrote too much counts, however quickly it left
                self._reason = messages.OUTPUT_LIMIT
        if self._reason < 0:
            self._reason = messages.EXITED
        self.settle_down(strays, more_may_come)

    def settle_down(self, strays: "list[procs.Process]", more_may_come: bool = False) -> None:
        """End what it left behind; reply once nothing is left and the pipes have ended, or after `DRAIN_TIMEOUT`.

        While a child is dying, more may come: it hands its own children over in the middle of that (exit_notify in the
        kernel's kernel/exit.c), and its death brings the next look.

        The grace is that of the whole group: a shell dies of TERM at once, what it runs may need a moment to clean up.
        """
        self._more_may_come = more_may_come
        self._left = self._all_left(strays)
        if self._grace is not None:
            for process in self._left:
                if process.group == self.pid:
                    self._number_kept = False
                    self.watch()
                    return
            self._grace.cancel()
            self._grace = None
        if self.detaches:
            self.left_alone.update(process.pid for process in strays)
            self._left = []
        else:
            self._sweep()
        self._finish_if_settled()
        if not self.done and self._settling is None:
            self._settling = self._timers.add(DRAIN_TIMEOUT, self._finish)
            self.watch()

    @property
    def detaches(self) -> bool:
        """Whether it may leave processes behind: it asked for that, and has ended by itself."""
        return self.is_detached and self._reason == messages.EXITED

    @property
    def is_detached(self) -> bool:
        """Whether it asked for that."""
        return self.request.flags & messages.DETACH != 0

    def _all_left(self, strays: "list[procs.Process]") -> "list[procs.Process]":
        # What its leader leaves in the group becomes a child of this process, so without strays nothing is left of the
        # group, and killing it costs one call; but a look at processes needs descriptors, and there may be none.
        if (strays or self._more_may_come or not self._orphans_come_here) and self.signal_group(0):
            known = {process.pid for process in strays}
            return strays + [each for each in procs.in_group_or_session(self.pid) if each.pid not in known]
        return strays

    def _sweep(self) -> None:
        """Kill what is left."""
        if self._number_kept:  # right after the reaping: later the number may be somebody else's
            self._number_kept = False
            self.signal_group(signal.SIGKILL)
        for process in self._left:
            self._leaked[process.pid] = process.name
            self._tier = max(self._tier, messages.GROUP if process.group == self.pid else messages.DESCENDANTS)
            process.kill()

    def _finish_if_settled(self) -> None:
        if self._left or self._more_may_come:
            return
        for output in self._outputs:
            if output.fd >= 0:
                return
        self._finish()

    def _finish(self) -> None:
        if self.done:
            return
        if self._settling is not None:
            self._settling.cancel()
        for output in self._outputs:
            if output.fd >= 0:
                if not self._leaked and not self.detaches:
                    self._leaked.update(procs.pipe_holders(os.fstat(output.fd).st_ino))
                self._close(output)
        self.done = True
        self._finished(self)

    def outcome(self, floor: int) -> Exit:
        """The reply; the spools of its outputs, if any, go with it.

        Args:
            floor: The peak memory of this worker as getrusage(2) counts it. A child starts with that figure and keeps
                it across `exec` (bun#43305), so only a larger one is the program's own.
        """
        usage, flags = self._usage, 0
        out = self.stdout.result() if self.stdout is not None else b""
        err = self.stderr.result() if self.stderr is not None else b""
        if self.stdout is not None:
            flags |= messages.STDOUT_TRUNCATED * self.stdout.truncated
            flags |= messages.STDOUT_HANDED_OVER * (self.stdout.spool >= 0)
        if self.stderr is not None:
            flags |= messages.STDERR_TRUNCATED * self.stderr.truncated
            flags |= messages.STDERR_HANDED_OVER * (self.stderr.spool >= 0)
        return Exit(
            self._reason,
            flags,
            self._tier,
            os.waitstatus_to_exitcode(self._status),
            self.pid,
            self._exited_at - self.started_at,
            usage.ru_utime,
            usage.ru_stime,
            usage.ru_maxrss * MAXRSS_UNIT if usage.ru_maxrss > floor else 0,
            out,
            err,
            list(self._leaked.items()) if self._reason == messages.EXITED else [],
        )

    def spools(self) -> "list[int]":
        """The memory files that hold large output, in the order stdout, stderr."""
        return [output.spool for output in self._outputs if output.spool >= 0]

    def output_error(self) -> int:
        """The errno with which output could not be kept, or 0."""
        return next((output.error for output in self._outputs if output.error), 0)

    def has_become(self) -> bool:
        """Whether a forked child has become the program; asked once its report can be read, or it has exited."""
        if self.report >= 0:
            said = os.read(self.report, 4096)
            self._poller.forget(self.report)
            os.close(self.report)
            self.report = -1
            if said:
                _, stage, number = said.decode().split()
                self.failure = int(number), stage
        return self.failure is None


def own_peak() -> int:
    """The peak memory of this process, as getrusage(2) counts it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
