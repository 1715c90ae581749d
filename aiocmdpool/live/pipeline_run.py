"""Runs a pipeline: kernel pipes between its stages, an ordinary run for each, and a common end."""

import asyncio
import dataclasses
import functools
import os
from time import monotonic

from aiocmdpool.commands.command import CommandOptions
from aiocmdpool.commands.errors import CommandTimeout, ExecuteError
from aiocmdpool.commands.outcome import result_or_error
from aiocmdpool.commands.pipeline import Pipeline, PipelineResult
from aiocmdpool.commands.result import CommandResult, EndReason
from aiocmdpool.commands.run_control import SameWorker
from aiocmdpool.live.controlled import ControlledExecutor, WholeRun, check_controlled, inner_of
from aiocmdpool.live.owned_run import OwnedRun, close_all
from aiocmdpool.loops.waiting import wait_through
from aiocmdpool.system.start_failure import stream_failure


async def run_pipeline(executor: ControlledExecutor, pipeline: Pipeline) -> PipelineResult:
    """Run `pipeline` to its end and return its result. No byte between its stages passes through this process.

    It is one command for pools and policies: it takes one place and one permit, and has one outcome.

    The first stage that cannot be started, or is ended for a reason of its own (its `timeout`, `max_output`, a lost
    worker), ends all of them; so do the pipeline's own `timeout` and a cancellation. All are dead and reaped when this
    returns or raises, `CancelledError` included.

    Raises:
        CommandTimeout: The deadline of the pipeline passed; the result is that of the last stage.
        NonZeroExit: A stage that counts failed, and its command or the pipeline says `check`; the result is that of
            the stage.
        ExecuteError: The reason why the first failed stage was ended; see `CommandExecutor.execute`. Or the executor
            can only run commands to their end.
    """
    check_controlled(executor, pipeline.stages[0])
    whole = _WholePipeline(pipeline)
    if inner_of(executor) is None:
        await whole.run_on(executor)
        return whole.result_or_error()
    last = await executor.execute(whole.command, control=whole)
    result = whole.result_or_error()
    if last.task_id is None:
        return result
    stages = tuple(stage.with_queued(last.queued, last.task_id) for stage in result.results)
    return dataclasses.replace(result, results=stages)


class _WholePipeline(WholeRun):
    """A pipeline as one command for pools and policies: its first stage, labelled with the text of all.

    If stages were let in one by one, they could wait for each other for ever: the first one fills its pipe and holds
    the permit for which the next one waits.
    """

    __slots__ = ("_pipeline", "_result", "command")

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__()
        self._pipeline = pipeline
        self._result: PipelineResult | None = None
        self.command = pipeline.stages[0].with_options(
            label=pipeline.display(),
            grace=max(stage.grace for stage in pipeline.stages),  # the slowest of them is waited for
            leftover_grace=max(stage.leftover_grace for stage in pipeline.stages),
        )

    def take_defaults(self, options: CommandOptions) -> None:
        self._pipeline = self._pipeline.with_defaults(options)

    async def run_on(self, executor: ControlledExecutor) -> CommandResult:
        self._result = None
        self._result = await _run(executor, self._pipeline)
        return self._result.results[-1]

    def result_or_error(self) -> PipelineResult:
        """Return the result of the pipeline; raise `ExecuteError` if the executor has not run it."""
        if self._result is None:
            message = f"{self.command.display()}: the executor has returned without having run it"
            raise ExecuteError(message, command=self.command)
        return self._result


async def _run(executor: ControlledExecutor, pipeline: Pipeline) -> PipelineResult:
    run = _PipelineRun(executor, pipeline)
    cancelled = await wait_through(run.over, on_cancel=lambda: run.end(EndReason.CANCELLED))
    run.close()
    if cancelled is not None:
        raise cancelled
    return run.result_or_error()


class _PipelineRun:
    def __init__(self, executor: ControlledExecutor, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._loop = asyncio.get_running_loop()
        self._reason: EndReason | None = None
        self._first_failed: OwnedRun | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._began_at: float | None = None
        pipes = self._make_pipes()
        self._runs = []
        same_worker = SameWorker()
        for number, stage in enumerate(pipeline.stages):
            changes = {}
            if number > 0:
                changes["stdin"] = pipes[number - 1][0]
            if number < len(pipes):
                changes["stdout"] = pipes[number][1]
            run = OwnedRun(executor, stage, changes, list(changes.values()), same_worker=same_worker)
            run.begun.add_done_callback(lambda _: self._begins())
            run.task.add_done_callback(functools.partial(self._look, run))
            self._runs.append(run)
        self.over = asyncio.gather(*(run.task for run in self._runs), return_exceptions=True)

    def _make_pipes(self) -> list[tuple[int, int]]:
        pipes: list[tuple[int, int]] = []
        try:
            pipes += (os.pipe() for _ in self._pipeline.stages[1:])
        except OSError as error:
            close_all([fd for pipe in pipes for fd in pipe])
            raise stream_failure(self._pipeline.stages[0], error) from None
        return pipes

    def _begins(self) -> None:
        if self._began_at is None:
            self._began_at = monotonic()
            if self._pipeline.timeout is not None:
                self._timer = self._loop.call_later(self._pipeline.timeout, self.end, EndReason.TIMEOUT)

    def _look(self, run: OwnedRun, _: object) -> None:
        """Note that a stage is over; if it failed first, end all stages."""
        if run.failed and self._reason is None and self._first_failed is None:
            self._first_failed = run
            self._end_runs()

    def end(self, reason: EndReason) -> None:
        """End all stages with `reason`; the first reason wins."""
        if self._first_failed is None:
            self._reason = self._reason or reason
        self._end_runs()

    def _end_runs(self) -> None:
        for run in self._runs:
            run.end(self._reason or EndReason.CANCELLED)

    def close(self) -> None:
        """Note the time of the end, and cancel the deadline."""
        self._ended_at = monotonic()
        if self._timer is not None:
            self._timer.cancel()

    def result_or_error(self) -> PipelineResult:
        """Return the result of the pipeline, or raise the error that ended it."""
        pipeline = self._pipeline
        results = tuple(run.result for run in self._runs if run.result is not None)
        if self._first_failed is not None:
            self._first_failed.result_or_error()
        late = [result for result in results if result.end_reason is EndReason.TIMEOUT]
        if self._reason is EndReason.TIMEOUT and (late or len(results) < len(self._runs)):
            message = f"{pipeline.display()}: ran longer than its timeout of {pipeline.timeout:g} s"
            raise CommandTimeout(message, result=late[-1] if late else None, end_reason=EndReason.TIMEOUT)
        for run in self._runs:
            if run.result is None:
                run.result_or_error()
        result = PipelineResult(pipeline, results, self._ended_at - (self._began_at or self._ended_at))
        for failure in result.failures:
            if pipeline.check or failure.command.check:
                checked = failure.command.with_options(check=True)
                result_or_error(dataclasses.replace(failure, command=checked))
        return result
