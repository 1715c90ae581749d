"""The job log: one line of JSON for each finished command.

A record is a line with its newline. A log that was cut short (killed, disk full) ends in a partial line: that command
counts as not done, and the next record starts on a new line. Data that a command was given by environment or stdin
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
    """The log record of one finished command."""

    seq: int
    """Number of the input in its run, from 1."""
    input: str
    occurrence: int | None = None
    """Number of inputs of its run, so far, with this very command; `None` if the run did not count them."""
    command: Sequence[str]
    start: float | None
    """Start in seconds since the epoch; `None` if the command never started."""
    end: float | None = None
    """End in seconds since the epoch."""
    runtime: float | None
    """Seconds that the command ran; `None` if it never started."""
    exit: int | None
    """Exit status; `None` if a signal ended it, if its end was not seen, or if it never started."""
    signal: int | None
    end_reason: str
    """Value of an `EndReason`, or `not_started`."""
    attempts: int
    stdout_bytes: int
    stderr_bytes: int
    usage: Usage | None = None
    """Resources used; `None` if they are not known."""
    leaked: Sequence[LeakedProcess] = ()
    """Processes that the command left running, all of which have been killed."""
    error: str | None
    """Message about the failure, if there was more than an exit status; `None` otherwise."""

    def line(self) -> bytes:
        """Return the record as a line of the log."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields["inputs"] = [self.input]  # a list, for commands with several inputs
        fields["usage"] = dataclasses.asdict(self.usage) if self.usage is not None else None
        fields["leaked"] = [dataclasses.asdict(process) for process in self.leaked]
        return json.dumps(fields, separators=(",", ":")).encode() + b"\n"

    @property
    def succeeded(self) -> bool:
        return self.exit == 0 and self.end_reason == EndReason.EXITED.value


def open_job_log(path: str, *, keep: bool) -> int:
    """Return a descriptor for appending records to a file that only this run writes; call `begin_job_log` next."""
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
    """Prepare an open log for the first record.

    Args:
        fd: Descriptor of the log.
        path: Its name, for messages.
        keep: Whether to keep its records, instead of starting anew.
        ends_cut: Whether to begin a new line, because the last one is cut short.

    Raises:
        JobLogError: The log cannot be written.
    """
    try:
        if not keep and stat.S_ISREG(os.fstat(fd).st_mode):
            os.ftruncate(fd, 0)
        if ends_cut:
            os.write(fd, b"\n")
    except OSError as error:
        raise JobLogError(f"cannot write the job log {path}: {error.strerror}") from None
