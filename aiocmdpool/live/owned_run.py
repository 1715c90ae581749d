"""A run in a task of its own: what a live process and the stages of a pipeline have in common.

    begin ── execute(command on our descriptors, control) ── on_start: close the program's ends
                      end(reason) ── cancel ───────┘         … ── outcome, as that of the command one was asked to run

Nothing is started here: any executor that takes a `RunControl` does that, with its deadlines, its ladder and its sweep.
"""

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import Iterable
from typing import Any

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ExecuteError, TaskCancelled
from aiocmdpool.commands.outcome import settle
from aiocmdpool.commands.result import CommandResult, EndReason
from aiocmdpool.commands.run_control import ChildSetup, Place, RunControl
from aiocmdpool.live.controlled import ControlledExecutor
from aiocmdpool.system.fork import keep_from_forks


class OwnedRun:
    """One run, from here to its end.

    Args:
        executor: Runs it.
        command: What one was asked to run; results and errors name it.
        changes: What is changed in it to run on descriptors of ours.
        theirs: The program's ends of our pipes, owned from here on: closed when it runs, or will not.
        setup: Of the program's process.
        place: Shared with other runs.
    """

    def __init__(
        self,
        executor: ControlledExecutor,
        command: CommandConfig,
        changes: dict[str, Any],
        theirs: list[int],
        setup: ChildSetup | None = None,
        place: Place | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._command = command
        self._theirs = theirs
        keep_from_forks(self)
        self._control = RunControl(self._on_start, setup, place)
        self._reason: EndReason | None = None
        self._result: CommandResult | None = None
        self._error: BaseException | None = None
        self.begun: asyncio.Future[None] = loop.create_future()
        """Done when the program runs, or will not."""
        # It cannot be run again on descriptors that are closed by then.
        running = self._run(executor, command.with_options(**changes, idempotent=False))
        self.task = loop.create_task(running, name=f"aiocmdpool-live-{command.program}")
        self.task.add_done_callback(lambda _: self._begins())

    async def _run(self, executor: ControlledExecutor, command: CommandConfig) -> None:
        try:
            self._note(await executor.execute(command, control=self._control))
        except asyncio.CancelledError as cancelled:  # its cause tells how that ended
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
        """For `keep_from_forks`."""
        return self._theirs

    @property
    def pid(self) -> int | None:
        """Of the program; `None` before its start."""
        return self._control.pid

    @property
    def result(self) -> CommandResult | None:
        """What it gave, if it ran and is over."""
        return self._result

    @property
    def was_cancelled(self) -> bool:
        """Whether it came to its end by `end`, without another reason."""
        if self._result is None:
            return self._error is None
        return self._result.end_reason is EndReason.CANCELLED

    @property
    def failed(self) -> bool:
        """Whether it is over and gave no result, or was ended before its time."""
        return self.task.done() and (self._result is None or self._result.end_reason is not EndReason.EXITED)

    def send_signal(self, number: int) -> None:
        """Signal the program alone; harmless after its end."""
        self._control.send_signal(number)

    def end(self, reason: EndReason = EndReason.CANCELLED) -> None:
        """End it by the ladder; the first reason wins. `task` is done when all of it is dead and reaped."""
        if not self.task.done():
            self._reason = self._reason or reason
            self.task.cancel()

    def settled(self) -> CommandResult:
        """What it gave, once it is over.

        Raises:
            ExecuteError: See `CommandExecutor.execute`.
        """
        if self._error is not None:
            raise self._error
        if self._result is None:
            reason = self._reason or EndReason.CANCELLED
            message = f"{self._command.display()}: {reason.value} before it started"
            raise TaskCancelled(message, command=self._command, end_reason=reason)
        return settle(self._result)


def close_all(descriptors: list[int]) -> None:
    """Close descriptors, and forget them."""
    while descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptors.pop())
