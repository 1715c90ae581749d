"""`ProcessBackend`, for `ExecutionMode.PROCESS`: each command is a child of this process, started on the loop.

A start blocks the loop for about a millisecond. That is fine for a handful of commands; a service that starts many uses
`ExecutionMode.PROCESS_POOL`.
"""

import asyncio
import contextlib
import os
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

from aiocmdpool.backends.child.command_run import not_started
from aiocmdpool.backends.child.process_run import ProcessRun
from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig, Stdio, StrOrBytesPath
from aiocmdpool.commands.errors import PoolClosed
from aiocmdpool.commands.pipeline import check_command
from aiocmdpool.commands.result import CommandResult, EndReason
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.live.process import LiveProcess, open_process
from aiocmdpool.live.terminal import WindowSize
from aiocmdpool.live.wiring import ALL
from aiocmdpool.loops.threads import in_thread
from aiocmdpool.loops.waiting import wait_through
from aiocmdpool.system import interpreter
from aiocmdpool.system.output_budget import Allowance, OutputBudget


class ProcessBackend:
    """Backend that runs each command as a child of this process.

    Args:
        max_output_total: Bytes of captured output that are held at once for all commands, apart from 64 KiB a stream;
            when they are used up, commands that capture wait before they start, and one that writes more ends by its
            `output_policy`. `None`: no limit. "auto": half of the memory that is free when larger output first comes.
        python: Path of the Python that prepares commands with settings. `None`: the environment variable
            AIOCMDPOOL_PYTHON; without it `sys.executable`, if that is a Python.

    Concurrency: any number of `execute` calls at once on one loop; several backends on several loops in several
    threads do not disturb each other.

    Ownership: `aclose` (or leaving `async with`) ends all running commands; their callers get `TaskCancelled`.

    Example:
        >>> async with ProcessBackend() as backend:
        ...     result = await backend.execute(CommandConfig("echo", ["hello"]))
    """

    def __init__(self, *, max_output_total: validate.ByteBudget = "auto", python: StrOrBytesPath | None = None) -> None:
        self._python = validate.interpreter("python", python)
        self._output = OutputBudget(validate.byte_budget("max_output_total", max_output_total))
        self._runs: set[ProcessRun] = set()
        self._closed = False
        self._owner = os.getpid()  # or the process that enters the block

    async def execute(self, command: CommandConfig, *, control: RunControl | None = None) -> CommandResult:
        """Run `command` to its end and return its result; the contract is that of `CommandExecutor.execute`.

        Cancellation: the command gets `stop_signal`, `grace`, SIGKILL; it is reaped before `CancelledError` is raised.

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
        if (command.needs_preparing or control is not None) and interpreter.known(self._python) is None:
            await in_thread(self._try_python)
            if self._closed:
                raise not_started(command, EndReason.CLOSED)
        with Allowance(self._output) as allowance:
            run = ProcessRun(command, asyncio.get_running_loop(), control, allowance, self._python)
            self._runs.add(run)
            try:
                return await run.to_the_end()
            finally:
                self._runs.discard(run)

    def _try_python(self) -> None:
        with contextlib.suppress(interpreter.NoPython, OSError):  # `execute` will meet the same error again
            interpreter.find(self._python)

    def open(
        self, command: CommandConfig, *, streams: Collection[str] = ALL, pty: bool | WindowSize = False
    ) -> AbstractAsyncContextManager[LiveProcess]:
        """Start a program and talk to it; see `live.process.open_process`.

        Example:
            >>> async with backend.open(CommandConfig("ping", ["-c3", "localhost"])) as process:
            ...     async for line in process.stdout:
            ...         print(line)
        """
        return open_process(self, command, streams=streams, pty=pty)

    async def aclose(self) -> None:
        """End all running commands and wait for their ends. Harmless when repeated.

        Cancellation: `CancelledError` is raised when all of them are dead.
        """
        self._closed = True
        self._output.line.wake()
        for run in self._runs:
            run.end(EndReason.CLOSED)
        cancelled = None
        for run in tuple(self._runs):
            cancelled = await wait_through(run.finished) or cancelled
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
        return f"<ProcessBackend {state}, {len(self._runs)} running>"
