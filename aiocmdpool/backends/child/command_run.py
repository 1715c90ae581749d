"""`CommandRun`: one command as a child of this process, from its streams to its result, driven by a loop or a thread.

    open streams ── launch ── watch exit ──┐
                                           ├─ first reason: exit, deadline, limit, cancel, close ── end ── result
                            read, feed ────┘

`steps` is a generator that acts, and yields what it waits for. A coroutine drives it where the event loop watches the
child (`ProcessRun`), a thread where it does not (`ThreadRun`). The next step on the way to the end is decided in
`standalone/ending.py`, which workers use, too.
"""

import os
from collections.abc import Callable, Generator
from time import monotonic, time  # uvloop's `loop.time()` is cached per iteration, in whole ms
from typing import NamedTuple

from aiocmdpool.backends.child.program import Program, holders_of
from aiocmdpool.commands.command import CommandConfig, OutputPolicy
from aiocmdpool.commands.errors import IoError, TaskCancelled
from aiocmdpool.commands.outcome import unkillable
from aiocmdpool.commands.result import CommandResult, EndReason
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.loops.loop import Loop, Timer
from aiocmdpool.standalone import ending
from aiocmdpool.standalone.ending import Ending
from aiocmdpool.standalone.kernel.processes import Process
from aiocmdpool.standalone.kernel.transient import StartRetry
from aiocmdpool.system.capture import Capture
from aiocmdpool.system.exit_watch import ExitWatch, watch_exit
from aiocmdpool.system.leftovers_log import warn_of_leftovers
from aiocmdpool.system.output_budget import Allowance
from aiocmdpool.system.pipes import PipeFeeder, PipeReader
from aiocmdpool.system.reaping import reap_later
from aiocmdpool.system.start_failure import stream_failure
from aiocmdpool.system.stdio import ChildStdio

LOOK_EVERY = 0.01  # seconds between checks where the kernel does not report the exit of a process that is no child


class Wait(NamedTuple):
    """A condition that a run waits for, yielded by `steps` to the driver of the run."""

    over: Callable[[], bool]
    seconds: float | None = None
    """Seconds to wait at most; `None` for no limit."""


Steps = Generator[Wait, None, None]


class CommandRun:
    """One run of a command. Callbacks of the loop only record a fact and, the first time, the reason to end.

    Args:
        command: The command to run.
        loop: The loop that watches pipes, exit and deadlines.
        changed: Called after each fact that a `Wait` may be waiting for.
        control: Notified of the start and the exit; `None` for nobody.
        allowance: Share of the budget for captured output; `None` for no limit.
        python: Path of the Python that prepares the child, if it needs that; `None` for the default.

    Concurrency: everything happens in the thread of its loop.
    """

    def __init__(
        self,
        command: CommandConfig,
        loop: Loop,
        changed: Callable[[], None] = lambda: None,
        control: RunControl | None = None,
        allowance: Allowance | None = None,
        python: str | None = None,
    ) -> None:
        self._command = command
        self._control = control
        self._setup = None if control is None else control.setup
        self._allowance = allowance
        self._python = python
        self._loop = loop
        self._changed = changed
        self._reason: EndReason | None = None
        self._exited_at: float | None = None
        self._timer: Timer | None = None
        self._idle_timer: Timer | None = None
        self._feeder: PipeFeeder | None = None
        self._readers: list[PipeReader] = []
        self._watch: ExitWatch | None = None
        self._last_output = 0.0
        self._result: CommandResult | None = None

    def steps(self) -> Steps:
        """Run the command, step by step. Closing this generator early frees all resources but leaves the program alone.

        Raises:
            IoError: The program could not be started.
            TaskCancelled: `end` was called before the start.
            ChildError: The program cannot be killed, or its exit status is lost.
        """
        try:
            yield from self._start_with_retry()
            yield Wait(self._ends)
            yield from self._end()
            self._finish()
        finally:
            self._release()

    def take_result(self) -> CommandResult:
        """Return the result after `steps` has ended without an error; only once.

        A run is a part of cycles, so a result that it kept would stay in memory until the garbage collector runs.
        """
        result, self._result = self._result, None
        assert result is not None
        return result

    def end(self, reason: EndReason) -> None:
        """Record `reason` as the reason why the run ends, unless there is one already."""
        if self._reason is None:
            self._reason = reason
            self._changed()

    # -- start ------------------------------------------------------------------------------------------------------

    def _start_with_retry(self) -> Steps:
        """Start the program; try again for a while if the failure may pass by itself."""
        retry = StartRetry()
        while True:
            try:
                return self._start()  # no wait in there, so no cancellation before the exit is watched
            except IoError as error:
                delay = retry.delay(error.errno)
                if delay < 0:
                    raise
                yield Wait(self._ends, delay)
                if self._reason is not None:
                    raise not_started(self._command, self._reason) from error

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
            self._program = Program(command, stdio, self._setup, self._python)
        except BaseException:
            self._release()
            raise
        finally:
            stdio.close_child_ends()
        self._watch = watch_exit(loop, self._program.pid, self._on_exit)
        if self._control is not None:
            self._control.started(self._program.pid, self._program.send_signal)
        if command.timeout is not None:
            self._timer = loop.call_later(command.timeout, lambda: self.end(EndReason.TIMEOUT))
        if command.idle_timeout is not None and not self._is_drained():
            self._last_output = self._started_at
            self._check_idle(command.idle_timeout)

    def _read(self, fd: int) -> Capture | None:
        if fd < 0:
            return None
        reader = PipeReader(
            self._loop,
            fd,
            Capture(self._command.max_output, self._command.output_policy, self._allowance),
            on_data=self._on_data,
            on_limit=lambda: self.end(EndReason.OUTPUT_LIMIT),
            on_end=self._changed,
        )
        self._readers.append(reader)
        return reader.capture

    # -- facts ------------------------------------------------------------------------------------------------------

    def _ends(self) -> bool:
        return self._reason is not None

    def _has_exited(self) -> bool:
        return self._exited_at is not None

    def _is_drained(self) -> bool:
        return all(reader.fd < 0 for reader in self._readers)

    def _on_exit(self) -> None:
        self._exited_at = monotonic()
        if self._control is not None:
            self._control.ended()
        self.end(EndReason.EXITED)
        self._changed()

    def _on_data(self) -> None:
        if self._command.idle_timeout is not None:
            self._last_output = monotonic()

    def _check_idle(self, limit: float) -> None:
        silent = monotonic() - self._last_output
        if silent >= limit:
            self.end(EndReason.IDLE_TIMEOUT)
        else:  # one timer that checks again when the deadline could be due, not one per chunk of output
            self._idle_timer = self._loop.call_later(limit - silent, lambda: self._check_idle(limit))

    # -- the end ----------------------------------------------------------------------------------------------------

    def _end(self) -> Steps:
        """Follow `ending.Ending` until the program is dead, its processes are gone and its pipes have ended."""
        command, program = self._command, self._program
        way = Ending(command.grace, command.leftover_grace, command.detach)
        if self._has_exited():
            way.exited(monotonic())
        else:
            way.end()
        spared = command.detach and not way.was_ended
        while True:
            if self._has_exited():
                way.exited(monotonic())
            left = program.left(in_grace=way.in_grace, spared=spared) if self._has_exited() else []
            act = way.act(monotonic(), len(left), len(left) if way.in_grace else 0, self._is_drained())
            if act == ending.CLOSE:
                return
            if act == ending.GIVE_UP:
                if not self._has_exited():
                    reap_later(program.pid)
                raise unkillable(command, self._reason, program.alive(), returned=self._has_exited())
            if act == ending.ASK:
                program.ask_to_end()
            elif act == ending.KILL:
                program.kill()
            elif act == ending.ASK_LEFT:
                program.ask_left(left)
            elif act == ending.SWEEP:
                program.sweep(left)
            yield from self._wait(way, left)

    def _wait(self, way: Ending, left: list[Process]) -> Steps:
        """Wait for the next fact, or until the next act is due."""
        seconds = None if way.wake_at < 0 else max(0.0, way.wake_at - monotonic())
        if not self._has_exited():
            yield Wait(self._has_exited, seconds)
        elif left:
            pause = LOOK_EVERY if seconds is None else min(seconds, LOOK_EVERY)
            yield from self._wait_for_exit(left[0].pid, seconds if hasattr(os, "pidfd_open") else pause)
        else:
            yield Wait(self._is_drained, seconds)

    def _wait_for_exit(self, pid: int, seconds: float | None) -> Steps:
        """Wait up to `seconds` for the exit of the process `pid`, which need not be a child of this one."""
        gone: list[int] = []

        def note() -> None:
            gone.append(pid)
            self._changed()

        if not hasattr(os, "pidfd_open"):  # without it, the exit of a process that is no child is not reported
            yield Wait(lambda: False, seconds)
            return
        watch = watch_exit(self._loop, pid, note)
        try:
            yield Wait(lambda: bool(gone), seconds)
        finally:
            watch.close()

    def _finish(self) -> None:
        program, exited_at = self._program, self._exited_at
        assert exited_at is not None
        status = program.status(b"" if self._stderr is None else self._stderr.result())
        leaked = program.bury()
        if self._reason is not EndReason.EXITED:
            leaked = ()
        elif not self._command.detach and not self._is_drained():
            leaked = leaked or holders_of(reader.fd for reader in self._readers if reader.fd >= 0)
        self._result = CommandResult(
            command=self._command,
            returncode=status.returncode,
            stdout=None if self._stdout is None else self._stdout.result(),
            stderr=None if self._stderr is None else self._stderr.result(),
            pid=status.pid,
            duration=exited_at - self._started_at,
            end_reason=self._final_reason(),
            usage=status.usage,
            truncated=self._is_truncated(),
            leaked=leaked,
            killed_by=program.killed_by,
            started_at=time() - (monotonic() - self._started_at),
        )
        self._stdout = self._stderr = None
        warn_of_leftovers(self._result)

    def _is_truncated(self) -> bool:
        return any(reader.capture.truncated for reader in self._readers)

    def _final_reason(self) -> EndReason:
        """Return the first reason to end, except that an exit after too much output counts as OUTPUT_LIMIT."""
        if (
            self._reason is EndReason.EXITED
            and self._is_truncated()
            and self._command.output_policy is OutputPolicy.FAIL
        ):
            return EndReason.OUTPUT_LIMIT
        return self._reason or EndReason.EXITED

    def _release(self) -> None:
        """Close descriptors, timers and watches, so that nothing of this run stays in the loop."""
        for timer in (self._timer, self._idle_timer):
            if timer is not None:
                timer.cancel()
        if self._feeder is not None:
            self._feeder.close()
        readers, self._readers = self._readers, []  # another try of the start will open others
        for reader in readers:
            reader.close()
        if self._watch is not None:
            self._watch.close()
            self._program.close()


def not_started(command: CommandConfig, reason: EndReason) -> TaskCancelled:
    """Return the error for a run that was ended by `reason` before it began."""
    return TaskCancelled(f"{command.display()}: {reason.value} before it started", command=command, end_reason=reason)
