"""`Pending`: a request to a worker, until it is answered."""

from typing import TYPE_CHECKING

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ExecuteError
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.standalone.ending import UNKILLABLE_AFTER
from aiocmdpool.standalone.kernel import processes as procs
from aiocmdpool.standalone.wire import messages

if TYPE_CHECKING:
    import asyncio

TICK = 0.01  # seconds: as exactly as the kernel tells when a process was started
OVERDUE_AFTER = 5.0  # seconds past a deadline that the worker itself should have kept
OVERDUE_BEATS = 2  # beats at which it has to be overdue: between two, the loop has read all that has arrived

Answer = tuple[messages.Exit, list[int]] | Exception
"""The end of a run and the descriptors of its large output; or the error for a run that did not take place."""


class RequestNotSent(Exception):
    """The worker was lost before any byte of the request was sent, so another one can run the command."""


class OnlyHere(Exception):
    """A stream of a command is a file that only this process can open; the command never ran, and is sent again.

    Attributes:
        stream: Name of the stream.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.stream = stream


class WorkerUnfit(Exception):
    """A worker could not start a command for a reason of its own; the command never ran, and another worker may run it.

    Attributes:
        error: The error of the command if no worker can run it.
    """

    def __init__(self, error: ExecuteError) -> None:
        super().__init__(str(error))
        self.error = error


class Pending:
    """A request that has been given to a worker and has no answer yet."""

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
        """Return whether the worker has missed a deadline of the command by more than a healthy one would.

        Args:
            now: The time of the loop, in seconds.
            beat: Seconds between two calls. Calls are counted, not seconds: the machine may have stood still.
        """
        timeout = self.command.timeout
        if not self.started_pid or timeout is None:
            return False
        if self.answer is None and now > self.started_at + timeout:
            self.overdue_beats += 1
        command = self.command
        allowance = command.grace + command.leftover_grace + 2 * UNKILLABLE_AFTER + OVERDUE_AFTER
        return self.overdue_beats > OVERDUE_BEATS + allowance / beat

    def signal(self, worker: int, signal: int) -> bool:
        """Send a signal to a program directly if its pid cannot belong to another process; return whether it was sent.

        It was a child of its worker and led a group before this process heard of it. Another process could only be all
        of that if all pids had been reused while the message about its start was on its way.
        """
        process = procs.look_at(self.started_pid)
        return (
            process is not None
            and process.parent == worker
            and process.group == process.pid
            and procs.started_before(process, self.started_at + TICK)
            and process.signal(signal)
        )

    def resolve(self, answer: Answer) -> None:
        self.answer = answer
        if self.control is not None:
            self.control.ended()
        if not self.future.done():
            self.future.set_result(None)
