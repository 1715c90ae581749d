"""A request that a worker has been given, until it is answered."""

from typing import TYPE_CHECKING

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ExecuteError
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.standalone.ending import UNKILLABLE_AFTER
from aiocmdpool.standalone.wire import messages

if TYPE_CHECKING:
    import asyncio

OVERDUE_AFTER = 5.0  # seconds past a deadline that the worker itself should have kept
OVERDUE_BEATS = 2  # so often it has to be seen overdue: between two beats the loop has read what has arrived

Answer = tuple[messages.Exit, list[int]] | Exception
"""How a run ended, with the descriptors of its large output; or why it did not."""


class RequestNotSent(Exception):
    """The worker was lost before any byte of the request had left: another one can run the command."""


class OnlyHere(Exception):
    """A stream of a command is a file that only this process can open; it never ran, and has to be sent with it.

    Attributes:
        stream: Its name.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.stream = stream


class WorkerUnfit(Exception):
    """A worker could not start a command for a reason of its own; it never ran, and another one may run it.

    Attributes:
        error: What the command ends with if nobody can.
    """

    def __init__(self, error: ExecuteError) -> None:
        super().__init__(str(error))
        self.error = error


class Pending:
    """A request without an answer."""

    __slots__ = ("answer", "command", "control", "future", "overdue_beats", "started_at", "started_pid")

    def __init__(self, command: CommandConfig, control: RunControl | None, future: "asyncio.Future[None]") -> None:
        self.command = command
        self.control = control
        self.future = future
        self.answer: Answer | None = None
        self.started_pid = 0
        self.overdue_beats = 0
        self.started_at = 0.0

    def overdue(self, now: float, beat: float) -> bool:
        """Whether the worker has missed a deadline of the command for so long that it cannot be trusted.

        Args:
            now: Of the loop.
            beat: Seconds between two calls. They are counted, not seconds: a machine may have stood still.
        """
        timeout = self.command.timeout
        if not self.started_pid or timeout is None:
            return False
        if self.answer is None and now > self.started_at + timeout:
            self.overdue_beats += 1
        command = self.command
        patience = command.grace + command.leftover_grace + 2 * UNKILLABLE_AFTER + OVERDUE_AFTER
        return self.overdue_beats > OVERDUE_BEATS + patience / beat

    def settle(self, answer: Answer) -> None:
        self.answer = answer
        if self.control is not None:
            self.control.ended()
        if not self.future.done():
            self.future.set_result(None)
