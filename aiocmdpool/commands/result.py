"""`CommandResult`: the result of a finished run, and `EndReason`: why it ended. Data only."""

import dataclasses
import enum
import signal as signals
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from aiocmdpool.commands.command import CommandConfig


class EndReason(enum.Enum):
    """The reason why a run ended. The first wins: a program that exits while it is ended for a timeout timed out."""

    EXITED = "exited"
    """The program ended by itself, or by a signal from elsewhere."""
    TIMEOUT = "timeout"
    """The program ran longer than `timeout`."""
    IDLE_TIMEOUT = "idle_timeout"
    """The program wrote nothing for `idle_timeout` seconds."""
    QUEUE_TIMEOUT = "queue_timeout"
    """The command waited in a queue past its queue deadline and never started."""
    OUTPUT_LIMIT = "output_limit"
    """The program exceeded `max_output`, or the rest of its pool's `max_output_total`, under `OutputPolicy.FAIL`."""
    CANCELLED = "cancelled"
    """The task, or the await of it, was cancelled."""
    CLOSED = "closed"
    """The pool or backend was closed."""
    WORKER_LOST = "worker_lost"
    """The worker that ran the command died or hung."""


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """Resources used by the program and by the children it waited for, as `wait4(2)` reports them."""

    user: float
    """CPU seconds in user mode."""
    system: float
    """CPU seconds in the kernel."""
    max_rss: int | None
    """Peak resident memory in bytes; `None` if the kernel's figure may be that of the process that started the program:
    it is inherited across `exec`, so only a larger peak is certain to be the program's own.
    """


@dataclasses.dataclass(frozen=True, slots=True)
class LeakedProcess:
    """A process that was still running after the command's own exit."""

    pid: int
    name: str


class KillTier(enum.Enum):
    """The strongest means that was needed to end a command, or the processes it left behind."""

    GROUP = "group"
    """Signals to the process group were enough."""
    DESCENDANTS = "descendants"
    """Processes had left the group and were found as orphans, or by the mark in their environment."""
    CGROUP = "cgroup"
    """The whole control group of the worker was killed."""


@dataclasses.dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of one finished run. Errors raised after the program started carry one, too."""

    command: "CommandConfig"
    returncode: int
    """Exit status, or `-N` if signal N ended the program."""
    stdout: bytes | None
    """Captured output; `None` if stdout was not captured."""
    stderr: bytes | None
    pid: int
    duration: float
    """Seconds from the start of the program to its exit."""
    end_reason: EndReason = EndReason.EXITED
    queued: float = 0.0
    """Seconds that the command waited in a pool's queue before."""
    usage: Usage | None = None
    """Resources used; `None` if they are not known exactly. Never an estimate."""
    truncated: bool = False
    """Whether a captured stream was cut by `max_output` or by the pool's `max_output_total`."""
    leaked: tuple[LeakedProcess, ...] = ()
    """Processes that the command left behind, all of which have been killed; empty if there were none."""
    killed_by: KillTier | None = None
    """Strongest means needed to end the command or its leftovers; `None` if nothing had to be ended."""
    started_at: float | None = dataclasses.field(default=None, compare=False)
    """Start of the program in seconds since the epoch, as `time.time` counts; `None` if it is not known."""
    task_id: int | None = dataclasses.field(default=None, compare=False)
    """Id of the pool's task that ran the command; `None` without a pool."""

    @property
    def signal(self) -> signals.Signals | int | None:
        """Return the signal that ended the program; `None` if it exited."""
        if self.returncode >= 0:
            return None
        try:
            return signals.Signals(-self.returncode)
        except ValueError:  # a real-time signal has no name
            return -self.returncode

    @property
    def ok(self) -> bool:
        """Return whether the program exited by itself with status 0."""
        return self.returncode == 0 and self.end_reason is EndReason.EXITED

    def with_queued(self, seconds: float, task_id: int | None = None) -> "CommandResult":
        """Return a copy that records `seconds` spent in a queue, and the id of the task."""
        return CommandResult(  # written out: `dataclasses.replace` takes three times as long, once per command
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
        """Return a captured stream decoded with the command's `encoding`.

        Args:
            stream: The stream to decode.
            errors: As for `bytes.decode`; `"replace"` never fails.

        Raises:
            ValueError: The stream was not captured, or (as `UnicodeDecodeError`) is not valid text in that
                encoding; the bytes are still in `stdout` and `stderr`.
        """
        data = self.stdout if stream == "stdout" else self.stderr
        if data is None:
            raise ValueError(f"{stream} of {self.command.display()} was not captured")
        return data.decode(self.command.encoding, errors)

    def _repr_html_(self) -> str:
        from aiocmdpool.commands.html import table  # imported late: only notebooks need it

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
        """Return the exit for people, such as `exit status 1` or `killed by SIGTERM`."""
        number = self.signal
        if number is None:
            return f"exit status {self.returncode}"
        return f"killed by {number.name if isinstance(number, signals.Signals) else f'signal {number}'}"
