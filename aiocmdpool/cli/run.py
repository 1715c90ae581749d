"""One run, told from its first input to its exit status.

    inputs ── template ── pool ── outcome ── output, job log, tally

`Run` is the only writer of its state. Everything happens on the loop: the feed waits for room, the callbacks of the
tasks do the rest, and an end of the run is a matter of `stop`.
"""

import asyncio
import contextlib
import functools
import os
import shlex
import time

from aiocmdpool.cli.arguments.halt import HaltAction
from aiocmdpool.cli.arguments.parse import RunOptions
from aiocmdpool.cli.arguments.template import Template
from aiocmdpool.cli.execution import pool_of, queued_ahead, shared_options
from aiocmdpool.cli.inputs import InputError
from aiocmdpool.cli.interrupts import interrupts
from aiocmdpool.cli.job import Job
from aiocmdpool.cli.messages import encoded, message
from aiocmdpool.cli.output.order import Turns
from aiocmdpool.cli.output.progress import ProgressBar, Snapshot, can_show_bar
from aiocmdpool.cli.output.writer import STDERR, STDOUT, Output
from aiocmdpool.cli.prepare import Prepared
from aiocmdpool.cli.readiness import settle
from aiocmdpool.cli.stop import OTHER_ERROR_STATUS, Stop, StopLevel, StopReason, exit_status
from aiocmdpool.cli.summary import Tally, summary
from aiocmdpool.cli.verdict import Outcome, Verdict, judge
from aiocmdpool.commands.errors import ConfigError, IoError
from aiocmdpool.pool.command_pool import CommandPool
from aiocmdpool.tasks.handle import TaskHandle
from aiocmdpool.tasks.status import TaskStatus

LAST_FLUSH = 1.0  # seconds for a slow reader to take what is left, once the run is being killed


async def run(options: RunOptions, prepared: Prepared) -> int:
    """Run it all; the exit status."""
    async with contextlib.AsyncExitStack() as stack:
        hooks = [prepared.trace] if prepared.trace is not None else []
        pool = None if options.dry_run else await stack.enter_async_context(pool_of(options, hooks))
        return await Run(options, prepared, pool).to_the_end()


class Run:
    """The state of a run.

    Args:
        options: What was asked for.
        prepared: What was opened for it.
        pool: Runs the commands; `None` only to show them.
    """

    def __init__(self, options: RunOptions, prepared: Prepared, pool: CommandPool | None) -> None:
        self._options = options
        self._inputs = prepared.inputs
        self._finished_before = prepared.finished_before
        self._log_fd = prepared.log_fd
        self._trace = prepared.trace
        self._trace_is_cut = False
        if self._trace is not None:
            self._trace.on_error = self._trace_failed
        self._pool = pool
        self._template = Template(options.template, shell=options.shell)
        self._shared = shared_options(options)
        self._room = asyncio.Event()
        self._output = Output(self._output_failed)
        self._turns = Turns(self._output, keep_order=options.keep_order, on_room=self._room.set)
        self._tally = Tally()
        self._stop = Stop()
        self._was_interrupted = False
        self._number = 0
        self._in_flight: dict[Job, TaskHandle] = {}
        self._max_in_flight = options.jobs + queued_ahead(options)
        self._feeding: asyncio.Task[None]
        self._idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._killed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._started = time.monotonic()

    async def to_the_end(self) -> int:
        """Feed the inputs, wait for the last command and the last byte, say how it went."""
        bar = ProgressBar(self._output, self._look) if self._shows_bar() else None
        feeding = self._feeding = asyncio.create_task(self._feed())
        feeding.add_done_callback(self._check_idle)
        try:
            with interrupts(self._interrupted, self._terminated):
                await self._idle
                if bar is not None:
                    bar.close()
                if self._trace is not None:
                    self._trace.close()  # every task has told it of its end by now
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
        """Make a job of each input that is not done yet, as there is room."""
        options = self._options
        try:
            while batch := await self._inputs.next_batch():
                for text in batch:
                    self._number += 1
                    argv = self._template.argv(text, self._number)
                    if self._finished_before.covers(self._number, argv, options.resume):
                        self._tally.skipped += 1
                        continue
                    while self._is_full():
                        self._room.clear()
                        await self._room.wait()
                    tag = os.fsencode(text.replace("\n", " ") + "\t") if options.tag else b""
                    self._begin(Job(self._number, text, argv, self._turns.enter(), tag))
        except InputError as error:
            self._fail_run(str(error))

    def _is_full(self) -> bool:
        if self._output.is_congested:
            self._output.when_low(self._room.set)
            return True
        return len(self._in_flight) >= self._max_in_flight or self._turns.is_congested

    def _begin(self, job: Job) -> None:
        """Hand the job's next attempt to the pool."""
        if self._pool is None:
            self._show(job)
            return
        try:
            command = job.command(self._shared, live=self._options.line_buffer)
        except ConfigError as error:  # an input that cannot be an argument
            self._finish(job, judge(None, error, stopping=False))
            return
        except OSError as error:
            failure = IoError(f"cannot make the pipes for its output: {error.strerror}", errno=error.errno)
            self._finish(job, judge(None, failure, stopping=False))
            return
        handle = self._in_flight[job] = self._pool.try_push_task(command)
        handle.add_done_callback(functools.partial(self._settled, job))

    def _show(self, job: Job) -> None:
        job.slot.write(STDOUT, os.fsencode(shlex.join(job.argv) + "\n"))
        self._turns.finish(job.slot)

    # -- from command to outcome --------------------------------------------------------------------------------------

    def _settled(self, job: Job, handle: TaskHandle) -> None:
        """An attempt has ended: judge it, wait for the rest of its output."""
        try:
            error = handle.exception()
            result = handle.result() if error is None else None
            outcome = judge(result, error, stopping=self._stop.level is not StopLevel.RUNNING)
            job.end(functools.partial(self._ended, job, outcome))
        except Exception as defect:  # nobody awaits a callback: without this, the run would wait for ever
            self._crash(defect)

    def _ended(self, job: Job, outcome: Outcome) -> None:
        """All of an attempt is here: try again, or be done with it."""
        del self._in_flight[job]
        may_retry = self._stop.level is StopLevel.RUNNING and job.attempts <= self._options.retries
        if outcome.verdict is Verdict.FAILED and may_retry:
            self._tally.retried += 1
            self._begin(job)
        else:
            self._finish(job, outcome)

    def _finish(self, job: Job, outcome: Outcome) -> None:
        """Write what came of the job, in the order that makes the job log true; count it; see whether to halt."""
        self._tally.count(outcome, job.number, job.argv)
        if outcome.verdict is not Verdict.UNDONE:
            sizes = job.write_captured(outcome)
            if outcome.message:
                job.slot.write(STDERR, message(f"input {job.number}: {outcome.message}"))
            if self._log_fd is not None:
                job.slot.write(self._log_fd, job.record(outcome, sizes).line())
        self._turns.finish(job.slot)
        halt = self._options.halt
        if halt.reached(self._tally.failed, self._tally.finished):
            self._stop_at(StopLevel.NOW if halt.action is HaltAction.NOW else StopLevel.SOON, StopReason.HALT)
        self._room.set()
        self._check_idle()

    # -- stopping -----------------------------------------------------------------------------------------------------

    def _stop_at(self, level: StopLevel, reason: StopReason) -> None:
        """Start nothing more; at NOW, end what runs."""
        if not self._stop.request(level, reason):
            return
        self._feeding.cancel()
        for job, handle in list(self._in_flight.items()):
            if level is StopLevel.NOW:
                job.hurry()
                handle.cancel()
            elif handle.status is TaskStatus.PENDING:
                handle.cancel()
        if level is StopLevel.NOW:
            settle(self._killed)

    def _interrupted(self) -> None:
        if self._was_interrupted:
            self._stop_at(StopLevel.NOW, StopReason.INTERRUPTED)
            return
        self._was_interrupted = True
        self._stop_at(StopLevel.SOON, StopReason.INTERRUPTED)
        running = sum(handle.status is TaskStatus.RUNNING for handle in self._in_flight.values())
        waiting = f"waiting for {running} running command{'s' * (running != 1)}; press Ctrl-C again to kill them"
        self._output.interject(message(f"interrupted: {waiting if running else 'nothing is running'}"))

    def _terminated(self) -> None:
        self._stop_at(StopLevel.NOW, StopReason.TERMINATED)

    def _output_failed(self, fd: int, error: OSError) -> None:
        if fd == STDOUT and isinstance(error, BrokenPipeError):
            self._stop_at(StopLevel.NOW, StopReason.OUTPUT_CLOSED)
            return
        name = "standard output" if fd == STDOUT else f"the job log {self._options.job_log}"
        self._fail_run(f"cannot write {name}: {error.strerror}", StopLevel.NOW)

    def _trace_failed(self, error: OSError) -> None:
        """The timeline is no reason to stop the work, but whoever waits for it must not think that it is there."""
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
        """The run is over when nothing more comes in and nothing is under way."""
        if not self._feeding.done() or self._in_flight or self._idle.done():
            return
        defect = None if self._feeding.cancelled() else self._feeding.exception()
        if defect is not None:
            self._idle.set_exception(defect)
        else:
            self._idle.set_result(None)

    async def _deliver(self) -> bool:
        """Let the last output out; whether it all went. A slow reader is not waited for while we are being killed."""
        flushing = asyncio.ensure_future(self._output.flush())
        await asyncio.wait((flushing, self._killed), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((flushing,), timeout=LAST_FLUSH)
        flushing.cancel()
        return flushing.done()

    def _summarize(self) -> None:
        wanted = self._options.progress or self._tally.failed or os.isatty(STDERR)
        if wanted and not self._options.quiet and self._stop.reason is not StopReason.OUTPUT_CLOSED:
            text = summary(self._tally, time.monotonic() - self._started)
            self._output.write(STDERR, encoded(text + "\n"))

    def _shows_bar(self) -> bool:
        options = self._options
        return options.progress is not False and not options.quiet and not options.dry_run and can_show_bar()

    def _look(self) -> Snapshot:
        return Snapshot(
            finished=self._tally.finished,
            failed=self._tally.failed,
            skipped=self._tally.skipped,
            running=sum(handle.status is TaskStatus.RUNNING for handle in self._in_flight.values()),
            total=self._inputs.estimated_total(),
            elapsed=time.monotonic() - self._started,
        )
