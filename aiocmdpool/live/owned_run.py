"""`OwnedRun`: a run in a task of its own, for live processes and stages of pipelines.

    begin ── execute(command on our descriptors, control) ── on_start: close the program's ends
                      end(reason) ── cancel ───────┘         … ── outcome, as that of the command one was asked to run

Nothing is started here: an executor that takes a `RunControl` does that, with its deadlines, signals and clean-up.
"""

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import Iterable
from typing import Any

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ExecuteError, TaskCancelled
from aiocmdpool.commands.outcome import result_or_error
from aiocmdpool.commands.result import CommandResult, EndReason
from aiocmdpool.commands.run_control import ChildSetup, RunControl, SameWorker
from aiocmdpool.live.controlled import ControlledExecutor
from aiocmdpool.system.fork import keep_from_forks


class OwnedRun:
    """One run in a task of its own, from its start to its end.

    Args:
        executor: The executor that runs the command.
        command: The command as the caller gave it, named by results and errors.
        changes: Options to change in it, so that it runs on our descriptors.
        theirs: The program's ends of our pipes, owned from here on; closed when it runs, or cannot run.
        setup: Settings of the program's process.
        same_worker: Shared with runs that are to go to the same worker.
    """

    def __init__(
        self,
        executor: ControlledExecutor,
        command: CommandConfig,
        changes: dict[str, Any],
        theirs: list[int],
        setup: ChildSetup | None = None,
        same_worker: SameWorker | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._command = command
        self._theirs = theirs
        keep_from_forks(self)
        self._control = RunControl(self._on_start, setup, same_worker)
        self._reason: EndReason | None = None
        self._result: CommandResult | None = None
        self._error: BaseException | None = None
        self.begun: asyncio.Future[None] = loop.create_future()
        """Future that resolves when the program runs, or cannot run."""
        # Not idempotent, because the descriptors are closed by the time of a second run.
        running = self._run(executor, command.with_options(**changes, idempotent=False))
        self.task = loop.create_task(running, name=f"aiocmdpool-live-{command.program}")
        self.task.add_done_callback(lambda _: self._begins())

    async def _run(self, executor: ControlledExecutor, command: CommandConfig) -> None:
        try:
            self._note(await executor.execute(command, control=self._control))
        except asyncio.CancelledError as cancelled:  # its cause says how the run ended
            if isinstance(cancelled.__cause__, ExecuteError):
                self._note_error(cancelled.__cause__)
        except Exception as error:
            self._note_error(error)

    def _note_error(self, error: BaseException) -> None:
        if isinstance(error, ExecuteError):
            error.command = self._command
            if error.result is not None:
                self._note(error.result)
                return
        self._error = error

    def _note(self, result: CommandResult) -> None:
        reason = result.end_reason
        if reason is EndReason.CANCELLED and self._reason is not None:
            reason = self._reason
        self._result = dataclasses.replace(result, command=self._command, end_reason=reason)

    def _on_start(self) -> None:
        self._begins()

    def _begins(self) -> None:
        close_all(self._theirs)
        if not self.begun.done():
            self.begun.set_result(None)

    def held(self) -> Iterable[int]:
        """Return the descriptors to close in forked children, for `keep_from_forks`."""
        return self._theirs

    @property
    def pid(self) -> int | None:
        """Return the process id of the program; `None` before its start."""
        return self._control.pid

    @property
    def result(self) -> CommandResult | None:
        """Return the result, if the program ran and is over; `None` otherwise."""
        return self._result

    @property
    def was_cancelled(self) -> bool:
        """Return whether the run was ended by `end`, and by no other reason."""
        if self._result is None:
            return self._error is None
        return self._result.end_reason is EndReason.CANCELLED

    @property
    def failed(self) -> bool:
        """Return whether the run is over without a result, or was ended early."""
        return self.task.done() and (self._result is None or self._result.end_reason is not EndReason.EXITED)

    def send_signal(self, number: int) -> None:
        """Send a signal to the program alone; harmless after its end."""
        self._control.send_signal(number)

    def end(self, reason: EndReason = EndReason.CANCELLED) -> None:
        """End the program step by step; the first reason wins. `task` is done when everything is dead and reaped."""
        if not self.task.done():
            self._reason = self._reason or reason
            self.task.cancel()

    def result_or_error(self) -> CommandResult:
        """Return the result of a run that is over, or raise its error.

        Raises:
            ExecuteError: See `CommandExecutor.execute`.
        """
        if self._error is not None:
            raise self._error
        if self._result is None:
            reason = self._reason or EndReason.CANCELLED
            message = f"{self._command.display()}: {reason.value} before it started"
            raise TaskCancelled(message, command=self._command, end_reason=reason)
        return result_or_error(self._result)


def close_all(descriptors: list[int]) -> None:
    """Close all descriptors of a list, and empty the list."""
    while descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptors.pop())
