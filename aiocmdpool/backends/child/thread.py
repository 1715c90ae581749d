"""`ThreadBackend`, for `ExecutionMode.THREAD`: each command is a child of this process, watched by a thread.

For hosts whose event loop cannot watch children: no descriptor and no deadline of a command is ever given to the loop,
and a start does not block it. The price is one thread for each running command.
"""

import asyncio
import errno
import os
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread

from aiocmdpool.backends.child.command_run import not_started
from aiocmdpool.backends.child.thread_run import ThreadRun
from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig, Stdio, StrOrBytesPath
from aiocmdpool.commands.errors import ExecuteError, PoolClosed, TaskCancelled
from aiocmdpool.commands.outcome import result_or_error
from aiocmdpool.commands.pipeline import check_command
from aiocmdpool.commands.result import CommandResult, EndReason
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.live.process import LiveProcess, open_process
from aiocmdpool.live.terminal import WindowSize
from aiocmdpool.live.wiring import ALL
from aiocmdpool.loops.waiting import wait_through
from aiocmdpool.standalone.kernel.transient import StartRetry
from aiocmdpool.system.output_budget import Allowance, OutputBudget
from aiocmdpool.system.start_failure import start_failure

THREADS = 40  # the default number of threads of anyio


class ThreadBackend:
    """Backend that runs each command as a child of this process, in a thread of its own.

    Args:
        threads: Number of commands or pipelines that run at once; others wait for a thread, which does not count as run
            time. They are threads of anyio: reused for the next command, and ended when idle or with the loop.
        max_output_total: Bytes of captured output that are held at once for all commands, apart from 64 KiB a stream;
            when they are used up, commands that capture wait before they start, and one that writes more ends by its
            `output_policy`. `None`: no limit. "auto": half of the memory that is free when larger output first comes.
        python: Path of the Python that prepares commands with settings. `None`: the environment variable
            AIOCMDPOOL_PYTHON; without it `sys.executable`, if that is a Python.

    Concurrency: any number of `execute` calls at once on one loop; each loop needs a backend of its own.

    Ownership: `aclose` (or leaving `async with`) ends all running commands; their callers get `TaskCancelled`.

    Example:
        >>> async with ThreadBackend() as backend:
        ...     result = await backend.execute(CommandConfig("echo", ["hello"]))
    """

    def __init__(
        self,
        threads: int = THREADS,
        *,
        max_output_total: validate.ByteBudget = "auto",
        python: StrOrBytesPath | None = None,
    ) -> None:
        self._python = validate.interpreter("python", python)
        self._output = OutputBudget(validate.byte_budget("max_output_total", max_output_total))
        self._threads = validate.whole_number(1)("threads", threads)
        self._limiter: anyio.CapacityLimiter | None = None
        self._runs: dict[ThreadRun, asyncio.Task[None]] = {}
        self._closed = False
        self._owner = os.getpid()  # or the process that enters the block

    async def execute(self, command: CommandConfig, *, control: RunControl | None = None) -> CommandResult:
        """Run `command` to its end and return its result; the contract is that of `CommandExecutor.execute`.

        Cancellation: the command gets `stop_signal`, `grace`, SIGKILL; it is dead and reaped before `CancelledError` is
            raised. One that still waits for a thread is withdrawn.

        Raises:
            IoError: The program could not be started.
            CommandTimeout, OutputLimitExceeded, NonZeroExit: See `CommandConfig`.
            TaskCancelled: The backend was closed meanwhile.
            PoolClosed: The backend was closed before.
        """
        check_command(command)
        if self._closed:
            raise PoolClosed("this backend is closed; make a new one", command=command)
        if Stdio.CAPTURE in (command.stdout, command.stderr):
            await self._output.wait_for_headroom()
            if self._closed:
                raise not_started(command, EndReason.CLOSED)
        with Allowance(self._output) as allowance:
            return await self._execute(command, control, allowance)

    async def _execute(self, command: CommandConfig, control: RunControl | None, allowance: Allowance) -> CommandResult:
        run = self._begin(command, control, allowance)
        try:
            cancelled = await wait_through(run.over, on_cancel=lambda: self._end(run, EndReason.CANCELLED))
        except BaseException:  # nobody awaits this any more: the coroutine is thrown away, or the loop was aborted
            run.end(EndReason.CLOSED)  # the thread can do that alone
            raise
        finally:
            del self._runs[run]
        try:
            result = run.result()
        except ExecuteError as error:
            if cancelled is not None:
                raise cancelled from error
            raise
        if cancelled is not None:  # the cause carries the result to the caller that cancelled
            raise cancelled from TaskCancelled(f"{command.display()}: cancelled", result=result)
        return result_or_error(result)

    def _begin(self, command: CommandConfig, control: RunControl | None, allowance: Allowance) -> ThreadRun:
        """Schedule a run in a thread, as soon as there is one."""
        if self._limiter is None:
            try:
                self._limiter = anyio.CapacityLimiter(self._threads)  # made here, because it belongs to a loop
            except OSError as error:  # anyio imports its part for this loop only now
                raise start_failure(command, OSError(error.errno, error.strerror)) from None
        loop = asyncio.get_running_loop()
        run = ThreadRun(command, loop, control, allowance, self._python)
        limiter = self._limiter
        if control is not None and control.same_worker is not None:
            if control.same_worker.chosen is self:  # waiting here would block the stages that have a thread
                limiter = anyio.CapacityLimiter(1)
            control.same_worker.chosen = self
        task = loop.create_task(self._in_a_thread(run, limiter), name=f"aiocmdpool-thread-{command.program}")
        task.add_done_callback(lambda done: run.withdraw(_no_thread(command, done)))
        self._runs[run] = task
        return run

    async def _in_a_thread(self, run: ThreadRun, limiter: anyio.CapacityLimiter) -> None:
        """Run `run` in a thread; if none can be started, try again for a while."""
        retry = StartRetry()
        while True:
            try:
                await anyio.to_thread.run_sync(run.to_the_end, limiter=limiter)
                return
            except RuntimeError:  # "can't start new thread" only: `to_the_end` raises nothing
                delay = retry.delay(errno.EAGAIN)
                if delay < 0:
                    raise
            await asyncio.sleep(delay)

    def _end(self, run: ThreadRun, reason: EndReason) -> None:
        if run.end(reason):
            self._runs[run].cancel()  # it waits for a thread; once it has one, only the run itself may end

    def open(
        self, command: CommandConfig, *, streams: Collection[str] = ALL, pty: bool | WindowSize = False
    ) -> AbstractAsyncContextManager[LiveProcess]:
        """Start a program in a thread and talk to it on the loop; see `live.process.open_process`."""
        return open_process(self, command, streams=streams, pty=pty)

    async def aclose(self) -> None:
        """End all running commands and wait for their ends. Harmless when repeated.

        Cancellation: `CancelledError` is raised when all of them are dead.
        """
        self._closed = True
        self._output.line.wake()
        for run in self._runs:
            self._end(run, EndReason.CLOSED)
        cancelled = None
        for run in tuple(self._runs):
            cancelled = await wait_through(run.over) or cancelled
        if cancelled is not None:
            raise cancelled

    async def __aenter__(self) -> Self:
        self._owner = os.getpid()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if os.getpid() == self._owner:  # a forked child that unwinds leaves the commands of its parent alone
            await self.aclose()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<ThreadBackend {state}, {len(self._runs)} running or waiting, {self._threads} threads>"


def _no_thread(command: CommandConfig, job: "asyncio.Task[None]") -> ExecuteError | None:
    """Return the error for a run that got no thread; `None` if it got one or was cancelled."""
    if job.cancelled() or job.exception() is None:
        return None
    return start_failure(command, OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)))  # "can't start new thread"
