"""`Attempts`: runs jobs in the pool, each with its pipes and its deadline, from its start to its last byte.

begin ── pool ── settled ── drained ── on_end(job, outcome)
"""

import asyncio
import functools
from collections.abc import Callable

from aiocmdpool.cli.arguments.options import RunOptions
from aiocmdpool.cli.descriptors import MAX_QUEUED, Fit
from aiocmdpool.cli.ending import Deadlines, timeout_ending
from aiocmdpool.cli.execution import FIRST_RUNNERS, queued_ahead, shared_options
from aiocmdpool.cli.job import Job
from aiocmdpool.cli.verdict import AttemptOutcome, verdict_of
from aiocmdpool.commands.errors import ConfigError, IoError
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.pool.command_pool import CommandPool
from aiocmdpool.tasks.handle import TaskHandle
from aiocmdpool.tasks.status import TaskStatus

WATCH_AFTER = 0.005  # seconds; a short command has ended by then, and its pipes hold all of its output


class Attempts:
    """Runs attempts of jobs in a pool.

    Args:
        options: The options of the command line.
        pool: The pool that runs the commands.
        fit: The number of commands that may run at once.
        on_end: Called at the end of each attempt.
        on_room: Called after a start that makes room for other commands.
        is_stopping: Function that tells whether the run is being stopped.
        on_defect: Called with an unexpected exception of a callback, which nobody awaits.
    """

    def __init__(
        self,
        options: RunOptions,
        pool: CommandPool,
        fit: Fit,
        on_end: Callable[[Job, AttemptOutcome], None],
        on_room: Callable[[], None],
        is_stopping: Callable[[], bool],
        on_defect: Callable[[BaseException], None],
    ) -> None:
        self._options = options
        self._pool = pool
        self._jobs = fit.jobs
        self._runners = min(fit.jobs, FIRST_RUNNERS)
        # Being notified of a start costs a frame of the worker.
        self._is_tight = fit.is_tight
        self._unstarted: set[Job] = set()  # only filled if it is tight
        self._is_told_of_starts = options.timeout is not None or options.detach or fit.is_tight
        self._on_end = on_end
        self._on_room = on_room
        self._is_stopping = is_stopping
        self._on_defect = on_defect
        self._shared = shared_options(options)
        self._under_way: dict[Job, RunControl | None] = {}
        self._unwatched: list[Job] = []
        self._most = fit.jobs + queued_ahead(options, fit.jobs)
        self.deadlines = Deadlines(options.timeout, self._time_out)

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def is_full(self) -> bool:
        """Return whether enough commands are running and waiting."""
        return len(self._under_way) >= self._most or len(self._unstarted) >= MAX_QUEUED

    @property
    def running(self) -> int:
        """Return the number of commands that are running."""
        return sum(_status(job) is TaskStatus.RUNNING for job in self._under_way)

    async def make_room(self) -> None:
        """Start more runners of the pool if there are commands for them, so that a large `--jobs` costs nothing."""
        if len(self._under_way) >= self._runners < self._jobs:
            self._runners = min(self._jobs, 2 * self._runners)
            await self._pool.start_executor(self._runners)

    def begin(self, job: Job) -> None:
        """Hand the next attempt of `job` to the pool."""
        job.handle = None
        try:
            command = job.command(self._shared, live=self._options.line_buffer, limit=self._options.max_output)
        except ConfigError as error:  # an input that cannot be an argument
            hint = "; are the inputs separated by NUL bytes (find -print0)? Then use -0" if "\0" in job.text else ""
            self._end(job, verdict_of(None, ConfigError(f"{error}{hint}"), stopping=False))
            return
        except OSError as error:
            failure = IoError(f"cannot make the pipes for its output: {error.strerror}", errno=error.errno)
            self._end(job, verdict_of(None, failure, stopping=False))
            return
        handle = job.handle = self._pool.try_push_task(command)
        if self._is_told_of_starts:
            handle.control = RunControl(functools.partial(self._started, job))
        self._under_way[job] = handle.control
        if not self._unwatched:
            asyncio.get_running_loop().call_later(WATCH_AFTER, self._watch)
        self._unwatched.append(job)
        if self._is_tight:
            self._unstarted.add(job)
        handle.add_done_callback(functools.partial(self._settled, job))

    def _watch(self) -> None:
        """Watch the output of all attempts under way; those that have ended by now never need that."""
        unwatched, self._unwatched = self._unwatched, []
        for job in unwatched:
            if job in self._under_way:
                job.watch()

    def cancel(self, *, running: bool) -> None:
        """Cancel all attempts that wait in the queue and, if `running`, also those that run."""
        for job in list(self._under_way):
            assert job.handle is not None
            if running:
                job.hurry()
            if running or _status(job) is TaskStatus.PENDING:
                job.handle.cancel()

    def programs(self) -> list[int] | None:
        """Return the pids of the running programs; `None` if the workers have no other descendants than commands."""
        if not self._options.detach:
            return None
        return [control.pid for control in self._under_way.values() if control is not None and control.pid]

    def _started(self, job: Job) -> None:
        """Note that the program of `job` runs: start its deadline."""
        job.started()
        self.deadlines.begin(job)
        if self._is_tight:
            self._unstarted.discard(job)
            self._on_room()

    def _time_out(self, job: Job) -> None:
        assert self._options.timeout is not None
        job.end_by(timeout_ending(self._options.timeout))

    def _settled(self, job: Job, handle: TaskHandle) -> None:
        """Handle the end of an attempt: wait for the rest of its output."""
        self.deadlines.end(job)
        try:
            error = handle.exception()
            result = handle.result() if error is None else None
            job.end(functools.partial(self._drained, job, result, error, self._is_stopping()))
        except Exception as defect:
            self._on_defect(defect)

    def _drained(self, job: Job, result: CommandResult | None, error: BaseException | None, stopping: bool) -> None:
        """Decide about an attempt whose output is complete, and may only now have turned out too large."""
        try:
            self._end(job, verdict_of(result, error, stopping=stopping, ending=job.ending))
        except Exception as defect:
            self._on_defect(defect)

    def _end(self, job: Job, outcome: AttemptOutcome) -> None:
        self._under_way.pop(job, None)
        self._unstarted.discard(job)
        self._on_end(job, outcome)


def _status(job: Job) -> TaskStatus | None:
    return job.handle.status if job.handle is not None else None
