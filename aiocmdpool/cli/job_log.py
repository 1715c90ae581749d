"""The job log: one JSON object a line for each finished command.

A record is a line with its newline. A log that was cut (killed, disk full) ends in a piece of a line: that command
counts as not done, and the next record starts on a line of its own. What a command was given by environment or stdin
never appears here.
"""

import dataclasses
import json
import os
import stat
from collections.abc import Sequence

from aiocmdpool.cli.files import holds, lock
from aiocmdpool.commands.result import EndReason, LeakedProcess, Usage


class JobLogError(Exception):
    """The file is no job log, or cannot be read or written; the message is for people."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One finished command."""

    seq: int
    """Number of the input in its run, from 1."""
    input: str
    occurrence: int | None = None
    """How many inputs of its run, so far, gave this very command; `None` in a run that did not count them."""
    command: Sequence[str]
    start: float | None
    """Seconds since the epoch; `None` if it never started."""
    end: float | None = None
    """Seconds since the epoch."""
    runtime: float | None
    """Seconds; `None` if it never started."""
    exit: int | None
    """Exit status; `None` if a signal ended it, or nobody saw its end, or it never started."""
    signal: int | None
    end_reason: str
    """An `EndReason`, or `not_started`."""
    attempts: int
    stdout_bytes: int
    stderr_bytes: int
    usage: Usage | None = None
    """What it used; `None` where that is not known."""
    leaked: Sequence[LeakedProcess] = ()
    """Processes that it left running, which have been ended."""
    error: str | None
    """What was said about the failure, where it was more than an exit status."""

    def line(self) -> bytes:
        """The record as it stands in the log."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields["inputs"] = [self.input]  # as many as the command was given
        fields["usage"] = dataclasses.asdict(self.usage) if self.usage is not None else None
        fields["leaked"] = [dataclasses.asdict(process) for process in self.leaked]
        return json.dumps(fields, separators=(",", ":")).encode() + b"\n"

    @property
    def succeeded(self) -> bool:
        return self.exit == 0 and self.end_reason == EndReason.EXITED.value


def open_job_log(path: str, *, keep: bool) -> int:
    """Return a descriptor to append records to, in a file that this run alone has. `begin_job_log` comes next.

    Args:
        path: Created if need be.
        keep: Go on with what is there, which can be read by the descriptor.

    Raises:
        JobLogError: It cannot be opened, is something else that would be lost, or another run writes it.
    """
    if not keep and not holds(path, b'{"seq":'):
        raise JobLogError(f"{path} exists and is no job log; remove it, or name another file")
    try:
        fd = os.open(path, (os.O_RDWR if keep else os.O_WRONLY) | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise JobLogError(f"cannot write the job log {path}: {error.strerror}") from None
    holder = lock(fd)
    if holder is not None:
        os.close(fd)
        raise JobLogError(f"the job log {path} is being written by {holder}; wait for its end, or name another file")
    return fd


def begin_job_log(fd: int, path: str, *, keep: bool, ends_cut: bool = False) -> None:
    """Make an open log ready for the first record.

    Args:
        fd: The log.
        path: Its name, for messages.
        keep: Go on with what is there, instead of starting anew.
        ends_cut: Begin a new line first.

    Raises:
        JobLogError: It cannot be written.
    """
    try:
        if not keep and stat.S_ISREG(os.fstat(fd).st_mode):
            os.ftruncate(fd, 0)
        if ends_cut:
            os.write(fd, b"\n")
    except OSError as error:
        raise JobLogError(f"cannot write the job log {path}: {error.strerror}") from None
