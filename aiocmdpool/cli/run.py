"""`Run`: one run of the command line, from its first input to its exit status.

    inputs ── template ── attempts ── outcome ── output, job log, tally

`Run` is the only writer of its state. Everything happens on the loop: the feed waits for room, callbacks of the
attempts do the rest, and `stop` decides about an early end.
"""

import asyncio
import os
import shlex
import time

from aiocmdpool.cli.arguments.halt import HaltAction
from aiocmdpool.cli.arguments.options import RunOptions
from aiocmdpool.cli.arguments.template import Template
from aiocmdpool.cli.attempts import Attempts
from aiocmdpool.cli.inputs import InputError, StreamInputs
from aiocmdpool.cli.interrupts import interrupts, stop_until_continued
from aiocmdpool.cli.job import Job
from aiocmdpool.cli.messages import encoded, message
from aiocmdpool.cli.output.order import OutputOrder
from aiocmdpool.cli.output.progress import ProgressBar, Snapshot, can_show_bar
from aiocmdpool.cli.output.writer import STDERR, STDOUT, Output
from aiocmdpool.cli.prepare import Prepared
from aiocmdpool.cli.readiness import resolve
from aiocmdpool.cli.resume import Occurrences, Resume
from aiocmdpool.cli.stop import OTHER_ERROR_STATUS, Stop, StopLevel, StopReason, exit_status
from aiocmdpool.cli.summary import Tally, left_running, not_run, summary
from aiocmdpool.cli.tree import CommandTree
from aiocmdpool.cli.verdict import AttemptOutcome, Verdict, unusable_text
from aiocmdpool.pool.command_pool import CommandPool

KILL_AGAIN = 0.1  # seconds between searches for commands that are to be killed at once
LAST_FLUSH = 1.0  # seconds for a slow reader to take what is left, once the run is being killed


class Run:
    """One run of the command line; holds all of its state.

    Args:
        options: The options of the command line.
        prepared: Everything that was opened for the run.
        pool: The pool that runs the commands; `None` to only show them.
        tree: The processes of the commands.
    """

    def __init__(self, options: RunOptions, prepared: Prepared, pool: CommandPool | None, tree: CommandTree) -> None:
        self._options = options
        self._inputs = prepared.inputs
        self._finished_before = prepared.finished_before
        self._log_fd = prepared.log_fd
        self._trace = prepared.trace
        self._trace_is_cut = False
        if self._trace is not None:
            self._trace.on_error = self._trace_failed
        self._tree = tree
        self._template = Template(options.template, shell=options.shell, replace=options.replace)
        self._occurrences = Occurrences() if options.resume is not Resume.NOTHING else None
        self._room = asyncio.Event()
        self._output = Output(self._output_failed)
        self._order = OutputOrder(self._output, keep_order=options.keep_order, on_room=self._room.set)
        self._tally = Tally()
        self._stop = Stop()
        self._interruptions = 0
        self._number = 0
        self._attempts: Attempts | None = None
        if pool is not None:
            self._attempts = Attempts(
                options, pool, prepared.fit, self._ended, self._room.set, self._is_stopping, self._crash
            )
        self._feeding: asyncio.Task[None]
        self._idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._killed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._started = time.monotonic()

    async def to_the_end(self) -> int:
        """Feed the inputs, wait for the last command and the last byte, and return the exit status."""
        bar = ProgressBar(self._output, self._look) if self._shows_bar() else None
        feeding = self._feeding = asyncio.create_task(self._feed())
        feeding.add_done_callback(self._check_idle)
        try:
            with interrupts(self._interrupted, self._terminated, self._suspended):
                await self._idle
                if bar is not None:
                    bar.close()
                if self._trace is not None:
                    self._trace.close()  # every task has sent its last event by now
                self._summarize()
                delivered = await self._deliver()
        finally:
            feeding.cancel()
            self._inputs.close()
            self._output.close()
        undone = feeding.cancelled() or self._tally.undone > 0 or self._tally.killed > 0 or not delivered
        return exit_status(self._stop, self._tally.failed, undone) or OTHER_ERROR_STATUS * self._trace_is_cut

    # -- from input to command ----------------------------------------------------------------------------------------

    async def _feed(self) -> None:
        """Make a job of each input that is not done yet, when there is room for it."""
        options = self._options
        try:
            while batch := await self._inputs.next_batch():
                for text in batch:
                    number = self._number + 1
                    argv = self._template.argv(text, number)
                    occurrence = self._occurrences.next(argv) if self._occurrences is not None else None
                    if occurrence is not None and self._finished_before.covers(occurrence, argv, options.resume):
                        self._tally.skipped += 1
                        self._number = number
                        continue
                    while self._is_full():
                        self._room.clear()
                        await self._room.wait()
                    tag = os.fsencode(text.replace("\n", " ") + "\t") if options.tag else b""
                    self._number = number
                    job = Job(number, text, argv, self._order.enter(), tag, occurrence)
                    if self._attempts is None:
                        self._show(job)
                    else:
                        await self._attempts.make_room()
                        self._attempts.begin(job)
        except InputError as error:
            self._fail_run(str(error))

    def _is_full(self) -> bool:
        if self._output.is_congested:
            self._output.when_low(self._room.set)
            return True
        return (self._attempts is not None and self._attempts.is_full) or self._order.is_congested

    def _show(self, job: Job) -> None:
        job.slot.write(STDOUT, os.fsencode(shlex.join(job.argv) + "\n"))
        self._order.finish(job.slot)

    # -- from outcome to log ------------------------------------------------------------------------------------------

    def _ended(self, job: Job, outcome: AttemptOutcome) -> None:
        """Handle an attempt whose output is complete: start another, or finish the job."""
        unusable = outcome.unusable_program if self._template.program is not None else None
        if unusable is not None:  # it is unusable for every input
            self._program_unusable(outcome, unusable)
            outcome = AttemptOutcome(Verdict.UNDONE)
        may_retry = job.handle is not None and not self._is_stopping() and job.attempts <= self._options.retries
        if outcome.verdict is Verdict.FAILED and may_retry:
            self._tally.retried += 1
            self._tally.count_left(outcome, job.number)
            assert self._attempts is not None
            self._attempts.begin(job)
        else:
            self._finish(job, outcome)

    def _finish(self, job: Job, outcome: AttemptOutcome) -> None:
        """Write and log the outcome of a job, count it, and halt if it is time."""
        self._tally.count(outcome, job.number, job.argv)
        if outcome.verdict is not Verdict.UNDONE:
            job.write_whole()
            if outcome.message:
                job.slot.write(STDERR, message(f"input {job.number}: {outcome.message}"))
            if self._log_fd is not None:
                # After its output, so that the log only tells of delivered output; before its turn at once, because a
                # slow neighbour must not keep finished work out of the log.
                write = job.slot.write if job.slot.is_turn else self._output.write
                write(self._log_fd, job.record(outcome).line())
        job.drop()
        self._order.finish(job.slot)
        halt = self._options.halt
        if halt.reached(self._tally.failed, self._tally.finished):
            self._stop_at(StopLevel.NOW if halt.action is HaltAction.NOW else StopLevel.SOON, StopReason.HALT)
        self._room.set()
        self._check_idle()

    # -- stopping -----------------------------------------------------------------------------------------------------

    def _is_stopping(self) -> bool:
        return self._stop.level is not StopLevel.RUNNING

    def _stop_at(self, level: StopLevel, reason: StopReason) -> None:
        """Start nothing more; at level NOW, also end running commands."""
        if not self._stop.request(level, reason):
            return
        self._feeding.cancel()
        if self._attempts is not None:
            self._attempts.cancel(running=level is StopLevel.NOW)
        if level is StopLevel.NOW:
            resolve(self._killed)

    def _interrupted(self) -> None:
        """Handle Ctrl-C: the first lets running commands finish, the second ends them, the third kills them."""
        self._interruptions += 1
        running = self._attempts.running if self._attempts is not None else 0
        commands = f"{running} running command{'s' * (running != 1)}"
        if self._interruptions == 1:
            self._stop_at(StopLevel.SOON, StopReason.INTERRUPTED)
            waiting = f"waiting for {commands}; press Ctrl-C again to kill them"
            self._output.interject(message(f"interrupted: {waiting if running else 'nothing is running'}"))
        elif self._interruptions == 2:
            self._stop_at(StopLevel.NOW, StopReason.INTERRUPTED)
            if running and self._options.grace:
                self._output.interject(message(f"ending {commands}; press Ctrl-C again to kill them at once"))
        elif self._interruptions == 3:
            self._kill()

    def _kill(self) -> None:
        """Kill all commands, again and again, to catch those that are just being started."""
        if self._attempts:
            self._tree.kill(self._attempts.programs())
            asyncio.get_running_loop().call_later(KILL_AGAIN, self._kill)

    def _terminated(self) -> None:
        self._stop_at(StopLevel.NOW, StopReason.TERMINATED)

    def _suspended(self) -> None:
        """Handle Ctrl-Z: stop the commands and this process; later continue both, with the deadlines they had left."""
        go_on = self._attempts.deadlines.hold() if self._attempts is not None else lambda: None
        self._output.draw(b"")
        frozen = self._tree.freeze()
        try:
            stop_until_continued()
        finally:
            self._tree.thaw(frozen)
            asyncio.get_running_loop().call_soon(go_on)  # in an iteration whose clock knows the time passed

    def _program_unusable(self, outcome: AttemptOutcome, status: int) -> None:
        if not self._is_stopping():
            assert self._template.program is not None
            self._output.write(STDERR, message(unusable_text(outcome, self._template.program)))
        self._stop_at(StopLevel.SOON, StopReason(status))

    def _output_failed(self, fd: int, error: OSError) -> None:
        if fd == STDOUT and isinstance(error, BrokenPipeError):
            self._stop_at(StopLevel.NOW, StopReason.OUTPUT_CLOSED)
            return
        name = "standard output" if fd == STDOUT else f"the job log {self._options.job_log}"
        self._fail_run(f"cannot write {name}: {error.strerror}", StopLevel.NOW)

    def _trace_failed(self, error: OSError) -> None:
        """Report a failed trace and go on; the exit status tells later that the trace is incomplete."""
        self._trace_is_cut = True
        self._output.write(STDERR, message(f"cannot write the trace {self._options.trace}: {error.strerror}"))

    def _fail_run(self, text: str, level: StopLevel = StopLevel.SOON) -> None:
        self._output.write(STDERR, message(text))
        self._stop_at(level, StopReason.FAILED)

    def _crash(self, defect: BaseException) -> None:
        if not self._idle.done():
            self._idle.set_exception(defect)

    # -- the end ------------------------------------------------------------------------------------------------------

    def _check_idle(self, _: object = None) -> None:
        """Resolve the end of the run when no more inputs come and no attempt is under way."""
        if not self._feeding.done() or self._attempts or self._idle.done():
            return
        defect = None if self._feeding.cancelled() else self._feeding.exception()
        if defect is not None:
            self._idle.set_exception(defect)
        else:
            self._idle.set_result(None)

    async def _deliver(self) -> bool:
        """Write the last output; return whether all was written. While being killed, do not wait for a slow reader."""
        flushing = asyncio.ensure_future(self._output.flush())
        await asyncio.wait((flushing, self._killed), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((flushing,), timeout=LAST_FLUSH)
        flushing.cancel()
        return flushing.done()

    def _summarize(self) -> None:
        if self._options.quiet or self._stop.reason is StopReason.OUTPUT_CLOSED:
            return
        unusable = self._stop.reason in (StopReason.NOT_FOUND, StopReason.NOT_EXECUTABLE)
        told = unusable and not self._tally.finished  # one line has said all there is to say
        wanted = (self._options.progress or self._tally.failed or os.isatty(STDERR)) and not told
        text = summary(self._tally, time.monotonic() - self._started) if wanted else ""
        if wanted and self._is_stopping():
            text += not_run(self._tally, self._number, self._inputs.exact_total(), self._options.job_log)
        self._output.write(STDERR, encoded(left_running(self._tally) + text))

    def _shows_bar(self) -> bool:
        options = self._options
        if options.progress is False or options.quiet or options.dry_run:
            return False
        typed = isinstance(self._inputs, StreamInputs) and os.isatty(self._inputs.fd)
        return can_show_bar(asked=options.progress is True, shared=typed)

    def _look(self) -> Snapshot:
        return Snapshot(
            finished=self._tally.finished,
            failed=self._tally.failed,
            skipped=self._tally.skipped,
            running=self._attempts.running if self._attempts is not None else 0,
            total=self._inputs.estimated_total(),
            elapsed=time.monotonic() - self._started,
        )
