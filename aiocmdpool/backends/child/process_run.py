"""`ProcessRun`: a run that the event loop watches; one coroutine takes it from start to result and only waits."""

import asyncio
import contextlib

from aiocmdpool.backends.child.command_run import CommandRun, Wait
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ExecuteError, TaskCancelled
from aiocmdpool.commands.outcome import result_or_error
from aiocmdpool.commands.result import CommandResult, EndReason
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.loops.waiting import wait_through
from aiocmdpool.system.output_budget import Allowance


class ProcessRun:
    """One run, owned by the coroutine that runs `to_the_end`."""

    def __init__(
        self,
        command: CommandConfig,
        loop: asyncio.AbstractEventLoop,
        control: RunControl | None = None,
        allowance: Allowance | None = None,
        python: str | None = None,
    ) -> None:
        self._command = command
        self._loop = loop
        self._run = CommandRun(command, loop, self._look, control, allowance, python)
        self._waiting: Wait | None = None
        self._news: asyncio.Future[None] = loop.create_future()
        self._cancelled: asyncio.CancelledError | None = None
        self.finished: asyncio.Future[None] = loop.create_future()

    async def to_the_end(self) -> CommandResult:
        """Run the command and return its result; the contract is that of `CommandExecutor.execute`."""
        try:
            with contextlib.closing(self._run.steps()) as steps:
                for wait in steps:
                    await self._wait(wait)
        except ExecuteError as error:
            if self._cancelled is not None:
                raise self._cancelled from error
            raise
        finally:
            self.finished.set_result(None)
        result = self._run.take_result()
        if self._cancelled is not None:  # the cause carries the result to the caller that cancelled
            raise self._cancelled from TaskCancelled(f"{self._command.display()}: cancelled", result=result)
        return result_or_error(result)

    def end(self, reason: EndReason) -> None:
        """Record `reason` as the reason why the run ends, unless there is one already."""
        self._run.end(reason)

    async def _wait(self, wait: Wait) -> None:
        """Wait for a condition. A cancellation is a reason to end the run, and is raised at its end."""
        if wait.over():
            return
        self._waiting, self._news = wait, self._loop.create_future()
        cancelled = await wait_through(self._news, wait.seconds, on_cancel=lambda: self.end(EndReason.CANCELLED))
        self._waiting = None
        self._cancelled = cancelled or self._cancelled

    def _look(self) -> None:
        """Wake the coroutine if the condition that it waits for has become true."""
        if self._waiting is not None and self._waiting.over() and not self._news.done():
            self._news.set_result(None)
