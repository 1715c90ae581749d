"""One command run as a child of this process, from its streams to its result.

    execute ── open streams ── launch ── watch exit ──┐
                                                      ├─ first reason: exit, deadline, limit, cancel, close
                                       read, feed ────┘
            ── terminate (stop signal, grace, KILL) ── reap ── sweep group and escapees ── drain ── result or error

The flow is one coroutine; everything the loop calls back only notes a fact and, the first time, the reason to end.
"""

import asyncio
import contextlib
import os
import resource
import signal
import sys
from collections.abc import Iterable
from time import monotonic  # `loop.time()` of uvloop stands still within a turn, and counts milliseconds

from aiocmdpool.command import CommandConfig, OutputPolicy
from aiocmdpool.errors import ChildError, ExecuteError, IoError, TaskCancelled
from aiocmdpool.outcome import settle
from aiocmdpool.result import CommandResult, EndReason, KillTier, LeakedProcess, Usage
from aiocmdpool.system.capture import Capture
from aiocmdpool.system.exit_watch import ExitWatch, watch_exit
from aiocmdpool.system.launch import launch
from aiocmdpool.system.pipes import PipeFeeder, PipeReader
from aiocmdpool.system.processes import group_members, hunt, pipe_holders
from aiocmdpool.system.run_mark import new_mark
from aiocmdpool.system.start_failure import preparation_failure, stream_failure
from aiocmdpool.system.stdio import ChildStdio
from aiocmdpool.waiting import wait_through
from aiocmdpool.worker_program import procs
from aiocmdpool.worker_program.patience import Patience

DRAIN_TIMEOUT = 0.25  # seconds for what is still in the pipes after the exit, when somebody else holds them
UNKILLABLE_AFTER = 5.0  # seconds after KILL; a process in uninterruptible sleep, or one we may not signal, stays longer

_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2) counts kilobytes on Linux, bytes on macOS


class ProcessRun:
    """One run, owned by the coroutine in `to_the_end`. Callbacks of the loop only note facts and the first reason."""

    def __init__(self, command: CommandConfig, loop: asyncio.AbstractEventLoop) -> None:
        self._command = command
        self._loop = loop
        self._reason: EndReason | None = None
        self._over: asyncio.Future[None] = loop.create_future()
        self._exited: asyncio.Future[None] = loop.create_future()
        self._drained: asyncio.Future[None] = loop.create_future()
        self.settled: asyncio.Future[None] = loop.create_future()
        self._cancelled: asyncio.CancelledError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._feeder: PipeFeeder | None = None
        self._watch: ExitWatch | None = None
        self._readers: list[PipeReader] = []
        self._open_readers = 0
        self._last_output = 0.0
        self._signalled: signal.Signals | None = None
        self._mark = new_mark()
        self._leaked: dict[int, LeakedProcess] = {}
        self._tier: KillTier | None = None

    async def to_the_end(self) -> CommandResult:
        try:
            await self._start_patiently()
            try:
                await self._wait(self._over)
                if not self._exited.done():
                    await self._terminate()
                result = await self._finish()
            finally:
                self._release()
        except ExecuteError as error:
            if self._cancelled is not None:
                raise self._cancelled from error
            raise
        finally:
            self.settled.set_result(None)
        if self._cancelled is not None:  # the cause carries the result to those who cancelled
            raise self._cancelled from TaskCancelled(f"{self._command.display()}: cancelled", result=result)
        return settle(result)

    def end(self, reason: EndReason) -> None:
        """Note why the run ends. The first reason wins."""
        if self._reason is None:
            self._reason = reason
            self._over.set_result(None)

    # -- start ------------------------------------------------------------------------------------------------------

    async def _start_patiently(self) -> None:
        """Start it; again, for a while, where the reason for a failure may pass by itself."""
        patience = Patience()
        while True:
            try:
                return self._start()  # no await in there, so no cancellation comes between the start and the watch
            except IoError as error:
                delay = patience.delay(error.errno)
                if delay < 0:
                    raise
                await self._wait(self._over, delay)
                if self._over.done():
                    message = f"{self._command.display()}: {self._final_reason().value} before it started"
                    raise TaskCancelled(message, command=self._command, end_reason=self._final_reason()) from error

    def _start(self) -> None:
        command, loop = self._command, self._loop
        try:
            stdio = ChildStdio(command)
        except OSError as error:
            raise stream_failure(command, error) from None
        try:
            self._started_at = monotonic()
            if stdio.stdin_pipe >= 0 and isinstance(command.stdin, bytes):
                self._feeder = PipeFeeder(loop, stdio.stdin_pipe, command.stdin)
            self._stdout = self._read(stdio.stdout_pipe)
            self._stderr = self._read(stdio.stderr_pipe)
            self._child = launch(command, stdio, self._mark)
        except BaseException:
            self._release()
            raise
        finally:
            stdio.close_child_ends()
        self._floor_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self._exited_at = 0.0
        if not self._open_readers:
            self._drained.set_result(None)
        self._watch = watch_exit(loop, self._child.pid, self._on_exit)
        if command.timeout is not None:
            self._timer = loop.call_later(command.timeout, self.end, EndReason.TIMEOUT)
        if command.idle_timeout is not None and self._open_readers:
            self._last_output = self._started_at
            self._check_idle(command.idle_timeout)

    def _read(self, fd: int) -> Capture | None:
        if fd < 0:
            return None
        self._open_readers += 1
        reader = PipeReader(
            self._loop,
            fd,
            Capture(self._command.max_output, self._command.output_policy),
            on_data=self._on_data,
            on_limit=self._on_limit,
            on_end=self._on_end_of_pipe,
        )
        self._readers.append(reader)
        return reader.capture

    # -- facts, noted by callbacks ----------------------------------------------------------------------------------

    def _on_exit(self) -> None:
        self._exited_at = monotonic()
        self._exited.set_result(None)
        self.end(EndReason.EXITED)

    def _on_data(self) -> None:
        if self._command.idle_timeout is not None:
            self._last_output = monotonic()

    def _on_limit(self) -> None:
        self.end(EndReason.OUTPUT_LIMIT)

    def _on_end_of_pipe(self) -> None:
        self._open_readers -= 1
        if not self._open_readers and not self._drained.done():
            self._drained.set_result(None)

    def _check_idle(self, limit: float) -> None:
        silent = monotonic() - self._last_output
        if silent >= limit:
            self.end(EndReason.IDLE_TIMEOUT)
        else:  # one timer that looks again when the deadline could be due, rather than one per chunk of output
            self._idle_timer = self._loop.call_later(limit - silent, self._check_idle, limit)

    async def _wait(self, future: "asyncio.Future[None]", seconds: float | None = None) -> None:
        """Wait for a fact, at most so long. A cancellation is a reason to end like any other, and kept for the end."""
        cancelled = await wait_through(future, seconds, on_cancel=lambda: self.end(EndReason.CANCELLED))
        self._cancelled = cancelled or self._cancelled

    # -- the end ----------------------------------------------------------------------------------------------------

    async def _terminate(self) -> None:
        self._tier = KillTier.GROUP
        self._end_group(self._command.stop_signal)
        self._signal_group(signal.SIGCONT)  # a stopped program sees the other only when it goes on
        kill_at = monotonic() + self._command.grace
        await self._wait(self._exited, self._command.grace)
        if self._exited.done():  # a shell dies of TERM at once; what it runs may need the grace to clean up
            await self._wait_for_group(kill_at)
        else:
            self._end_group(signal.SIGKILL)
            await self._wait(self._exited, UNKILLABLE_AFTER)

    async def _wait_for_group(self, until: float) -> None:
        """Wait for the rest of the group, whose leader is a zombie."""
        while (left := until - monotonic()) > 0 and (members := group_members(self._child.pid)):
            await self._wait_for_exit(members[0].pid, left)

    async def _wait_for_exit(self, pid: int, seconds: float) -> None:
        """Wait for a process that may be nobody's child here."""
        gone = self._loop.create_future()
        watch = watch_exit(self._loop, pid, lambda: gone.set_result(None))
        try:
            await self._wait(gone, seconds)
        finally:
            watch.close()

    def _end_group(self, number: signal.Signals) -> None:
        self._signalled = number
        self._signal_group(number)

    def _signal_group(self, number: signal.Signals) -> None:
        """Signal the process group; called only while its leader is not reaped, so the number is still ours."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # EPERM: all of it runs as somebody else
            os.killpg(self._child.pid, number)

    async def _finish(self) -> CommandResult:
        if not self._exited.done():
            raise ChildError(
                f"{self._command.display()}: process {self._child.pid} is still there {UNKILLABLE_AFTER:g} s after "
                "SIGKILL; it belongs to another user, or the kernel holds it in uninterruptible sleep",
                command=self._command,
            )
        pid, returncode, usage = self._reap()
        if not self._detaches():
            await self._sweep_escapees()
        await self._wait(self._drained, DRAIN_TIMEOUT)
        leaked = tuple(self._leaked.values()) if self._reason is EndReason.EXITED else ()
        if self._open_readers and not self._detaches():
            leaked = leaked or self._holders()
        return CommandResult(
            command=self._command,
            returncode=returncode,
            stdout=None if self._stdout is None else self._stdout.result(),
            stderr=None if self._stderr is None else self._stderr.result(),
            pid=pid,
            duration=self._exited_at - self._started_at,
            end_reason=self._final_reason(),
            usage=usage,
            truncated=any(reader.capture.truncated for reader in self._readers),
            leaked=leaked,
            killed_by=self._tier,
        )

    def _detaches(self) -> bool:
        """Whether it may leave processes behind: it asked for that, and has ended by itself."""
        return self._command.detach and self._reason is EndReason.EXITED

    def _final_reason(self) -> EndReason:
        """The first reason; that it wrote too much counts however quickly it left."""
        cut = any(reader.capture.truncated for reader in self._readers)
        if self._reason is EndReason.EXITED and cut and self._command.output_policy is OutputPolicy.FAIL:
            return EndReason.OUTPUT_LIMIT
        return self._reason or EndReason.EXITED

    def _reap(self) -> tuple[int, int, Usage | None]:
        """Take the exit status, and kill what the program left in its group."""
        group = self._child.pid
        try:
            _, status, used = os.wait4(group, 0)
        except ChildProcessError:  # SIGCHLD is ignored, or somebody called waitpid(-1): the status is gone
            status, used = None, None
        if not self._detaches():
            self._sweep_group(group)
        report = self._child.report()
        code = -1 if status is None else os.waitstatus_to_exitcode(status)
        self._child.reaped(code)
        if report.error_stage is not None:
            raise preparation_failure(self._command, report.error_stage, report.error_number)
        if report.wait_status is not None and report.usage is not None:  # the supervising launcher saw the exit
            user, system, peak = report.usage
            code = os.waitstatus_to_exitcode(report.wait_status)
            return report.pid or group, code, Usage(user, system, self._max_rss(peak))
        if status is None and self._signalled is not None:  # the signal hit the launcher, too, or before it was ready
            return report.pid or group, -self._signalled, None
        if status is None or used is None:
            raise ChildError(
                f"{self._command.display()}: its exit status was taken by other code in this process; look for "
                "waitpid(-1), or for a SIGCHLD that was set to be ignored after the start",
                command=self._command,
            )
        return group, code, Usage(used.ru_utime, used.ru_stime, self._max_rss(used.ru_maxrss))

    def _max_rss(self, kernel_figure: int) -> int | None:
        # A child starts with the peak of the process it was vforked from, and keeps it across exec (bun#43305;
        # setmax_mm_hiwater_rss in the kernel's fs/exec.c): only a larger figure is the program's own.
        return kernel_figure * _MAXRSS_UNIT if kernel_figure > self._floor_rss else None

    def _sweep_group(self, group: int) -> None:
        """Kill what is left of the group after its leader.

        The number cannot be given to a new process while a member lives (the kernel frees a pid when no task uses it as
        pid, group or session). If the group is empty it can, in theory even by now: but then there is a leader again.
        """
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return
        members = group_members(group)
        if members and not any(member.pid == group for member in members):
            self._signal_group(signal.SIGKILL)
            self._note(members, KillTier.GROUP)

    async def _sweep_escapees(self) -> None:
        """Kill what has left the group, by the mark in its environment, until nothing of it is left."""
        give_up_at = monotonic() + UNKILLABLE_AFTER
        while (left := give_up_at - monotonic()) > 0:
            escapees = hunt(lambda process: self._mark in procs.marks_of(process.pid), since=self._child.pid)
            if not escapees:
                return
            self._note([LeakedProcess(each.pid, os.fsdecode(each.name)) for each in escapees], KillTier.DESCENDANTS)
            for process in escapees:
                await self._wait_for_exit(process.pid, left)

    def _note(self, left: Iterable[LeakedProcess], tier: KillTier) -> None:
        """Processes were left, and have been killed."""
        self._leaked.update((process.pid, process) for process in left)
        self._tier = KillTier.DESCENDANTS if KillTier.DESCENDANTS in (self._tier, tier) else tier

    def _holders(self) -> tuple[LeakedProcess, ...]:
        """Who still holds the pipes after everything in the group is dead: it left the group, or is not ours."""
        holders: tuple[LeakedProcess, ...] = ()
        for reader in self._readers:
            if reader.fd >= 0:
                holders += pipe_holders(os.fstat(reader.fd).st_ino)
        return tuple(dict.fromkeys(holders)) or (LeakedProcess(-1, "unknown"),)

    def _release(self) -> None:
        """Give back descriptors, timers and watches. Whatever happened, nothing of this run stays in the loop."""
        for timer in (self._timer, self._idle_timer):
            if timer is not None:
                timer.cancel()
        if self._feeder is not None:
            self._feeder.close()
        for reader in self._readers:
            reader.close()
        if self._watch is not None:
            self._watch.close()
            self._child.close()
