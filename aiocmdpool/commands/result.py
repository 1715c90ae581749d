"""What a finished run gave: `CommandResult`, and why it ended: `EndReason`. Data only."""

import dataclasses
import enum
import signal as signals
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from aiocmdpool.commands.command import CommandConfig


class EndReason(enum.Enum):
    """Why a run ended. The first reason wins: a program that exits while it is being ended for a timeout timed out."""

    EXITED = "exited"
    """The program ended by itself (or by a signal from elsewhere)."""
    TIMEOUT = "timeout"
    """It ran longer than `timeout`."""
    IDLE_TIMEOUT = "idle_timeout"
    """It wrote nothing for `idle_timeout`."""
    QUEUE_TIMEOUT = "queue_timeout"
    """It waited in a queue past its queue deadline and never started."""
    OUTPUT_LIMIT = "output_limit"
    """It wrote more than `max_output`, or than was left of its pool's `max_output_total`, under `OutputPolicy.FAIL`."""
    CANCELLED = "cancelled"
    """Its task, or the await of it, was cancelled."""
    CLOSED = "closed"
    """Its pool or backend was closed."""
    WORKER_LOST = "worker_lost"
    """The worker that ran it died or hung."""


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """Resources the program used, with the children it waited for, as `wait4(2)` reports them."""

    user: float
    """CPU seconds in user mode."""
    system: float
    """CPU seconds in the kernel."""
    max_rss: int | None
    """Peak resident memory in bytes; `None` where the kernel's figure is that of the process which started the
    program (it is inherited across `exec`), so that only a larger peak can be told from it."""


@dataclasses.dataclass(frozen=True, slots=True)
class LeakedProcess:
    """A process that the command left running after its own exit."""

    pid: int
    name: str


class KillTier(enum.Enum):
    """How far one had to go to end a command, or what it left behind."""

    GROUP = "group"
    """Signals to its process group were enough."""
    DESCENDANTS = "descendants"
    """Processes had left the group; they were found as orphans, or by the mark in their environment."""
    CGROUP = "cgroup"
    """The control group of the worker was killed."""


@dataclasses.dataclass(frozen=True, slots=True)
class CommandResult:
    """The outcome of one run. Errors raised after the program started carry one too."""

    command: "CommandConfig"
    returncode: int
    """Exit status, or `-N` where signal N ended the program."""
    stdout: bytes | None
    """Captured output; `None` where it went elsewhere."""
    stderr: bytes | None
    pid: int
    duration: float
    """Seconds from the start of the program to its exit."""
    end_reason: EndReason = EndReason.EXITED
    queued: float = 0.0
    """Seconds it waited in a pool's queue before."""
    usage: Usage | None = None
    """`None` where it cannot be known exactly; never an estimate."""
    truncated: bool = False
    """Whether `max_output`, or the pool's `max_output_total`, cut a captured stream."""
    leaked: tuple[LeakedProcess, ...] = ()
    """Processes it left behind, which have been killed; true in a condition where there were any."""
    killed_by: KillTier | None = None
    """What it took to end the command, or what it left behind; `None` where nothing had to be ended."""
    started_at: float | None = dataclasses.field(default=None, compare=False)
    """When the program was started, in seconds since the epoch, as `time.time` tells; `None` where it is not known."""
    task_id: int | None = dataclasses.field(default=None, compare=False)
    """The id of the task of a pool that it was; `None` without a pool."""

    @property
    def signal(self) -> signals.Signals | int | None:
        """The signal that ended the program, or `None`."""
        if self.returncode >= 0:
            return None
        try:
            return signals.Signals(-self.returncode)
        except ValueError:  # a real-time signal has no name
            return -self.returncode

    @property
    def ok(self) -> bool:
        """Whether the program exited by itself with status 0."""
        return self.returncode == 0 and self.end_reason is EndReason.EXITED

    def with_queued(self, seconds: float, task_id: int | None = None) -> "CommandResult":
        """A copy that says how long the command waited in a queue, and as which task."""
        return CommandResult(  # written out: `dataclasses.replace` takes three times as long, once for every command
            self.command,
            self.returncode,
            self.stdout,
            self.stderr,
            self.pid,
            self.duration,
            self.end_reason,
            seconds,
            self.usage,
            self.truncated,
            self.leaked,
            self.killed_by,
            self.started_at,
            self.task_id if task_id is None else task_id,
        )

    def text(self, stream: Literal["stdout", "stderr"] = "stdout", *, errors: str = "strict") -> str:
        """Decode a captured stream with the command's `encoding`.

        Args:
            stream: Which one.
            errors: As for `bytes.decode`; `"replace"` never fails.

        Raises:
            ValueError: The stream was not captured, or (as `UnicodeDecodeError`) holds what is no text in that
                encoding; the bytes are still in `stdout` and `stderr`.
        """
        data = self.stdout if stream == "stdout" else self.stderr
        if data is None:
            raise ValueError(f"{stream} of {self.command.display()} was not captured")
        return data.decode(self.command.encoding, errors)

    def _repr_html_(self) -> str:
        from aiocmdpool.commands.html import table  # for notebooks alone

        rows: dict[str, object] = {
            "ended": f"{self.end_reason.value}, {self.status_text()}",
            "duration": f"{self.duration:.3f} s",
            "queued": f"{self.queued:.3f} s",
        }
        rows |= {"usage": self.usage} if self.usage is not None else {}
        rows |= {"left behind": self.leaked} if self.leaked else {}
        rows |= {name: data for name in ("stdout", "stderr") if (data := getattr(self, name))}
        return table(self.command.display(), rows)

    def status_text(self) -> str:
        """The exit for people: `exit status 1`, `killed by SIGTERM`."""
        number = self.signal
        if number is None:
            return f"exit status {self.returncode}"
        return f"killed by {number.name if isinstance(number, signals.Signals) else f'signal {number}'}"
