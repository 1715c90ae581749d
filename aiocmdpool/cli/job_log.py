"""The job log: one JSON object a line for each finished command, and what `--resume` learns from it.

A record is a line with its newline. A log that was cut (killed, disk full) ends in a piece of a line: that command
counts as not done, and the next record starts on a line of its own. What a command was given by environment or stdin
never appears here.
"""

import dataclasses
import enum
import json
import os
from collections.abc import Sequence

from aiocmdpool.commands.result import EndReason

UNFINISHED = {EndReason.CANCELLED.value, EndReason.CLOSED.value}  # ended by us, so not done
MAX_WARNINGS = 3


class Resume(enum.Enum):
    """What a job log lets a run skip."""

    NOTHING = "nothing"
    DONE = "done"
    """Every command that has ended, well or not."""
    SUCCEEDED = "succeeded"
    """Only those that ended well; the others run again."""


class JobLogError(Exception):
    """The file is no job log, or cannot be read; the message is for people."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One finished command."""

    seq: int
    """Number of the input, from 1."""
    input: str
    command: Sequence[str]
    start: float
    """Seconds since the epoch."""
    runtime: float
    """Seconds."""
    exit: int | None
    """Exit status; `None` if a signal ended it or it never started."""
    signal: int | None
    end_reason: str
    """An `EndReason`, or `not_started`."""
    attempts: int
    stdout_bytes: int
    stderr_bytes: int
    error: str | None
    """What was said about the failure, where it was more than an exit status."""

    def line(self) -> bytes:
        """The record as it stands in the log."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(fields, separators=(",", ":")).encode() + b"\n"

    @property
    def succeeded(self) -> bool:
        return self.exit == 0 and self.end_reason == EndReason.EXITED.value


@dataclasses.dataclass(slots=True)
class FinishedJobs:
    """What a job log says was done."""

    ends_cut: bool = False
    """The last line lacks its newline."""
    warnings: list[str] = dataclasses.field(default_factory=list)
    _succeeded: dict[int, int] = dataclasses.field(default_factory=dict)
    _failed: dict[int, int] = dataclasses.field(default_factory=dict)

    def note(self, number: int, command: Sequence[str], end_reason: str, *, succeeded: bool) -> None:
        """Take one record in; the last one about a number counts."""
        self._succeeded.pop(number, None)
        self._failed.pop(number, None)
        if end_reason not in UNFINISHED:
            # The hash stands for the command line: 100 bytes a job instead of a list of strings.
            (self._succeeded if succeeded else self._failed)[number] = hash(tuple(command))

    def covers(self, number: int, command: Sequence[str], resume: Resume) -> bool:
        """Whether this very command, under this number, need not run again."""
        if resume is Resume.NOTHING:
            return False
        known = self._succeeded.get(number)
        if known is None and resume is Resume.DONE:
            known = self._failed.get(number)
        return known is not None and known == hash(tuple(command))


def read_job_log(path: str) -> FinishedJobs:
    """What the log at `path` says; a file that does not exist says nothing.

    A damaged line in the middle is warned of, and its command counts as not done.

    Raises:
        JobLogError: It cannot be read, or holds lines but no record.
    """
    jobs = FinishedJobs()
    records = damaged = number = 0
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    jobs.ends_cut = True
                elif _take(jobs, line):
                    records += 1
                else:
                    damaged += 1
                    if damaged <= MAX_WARNINGS:
                        jobs.warnings.append(f"{path}, line {number}: no job record; its command counts as not done")
    except FileNotFoundError:
        return jobs
    except OSError as error:
        raise JobLogError(f"cannot read the job log {path}: {error.strerror}") from None
    if damaged and not records:
        raise JobLogError(f"{path} is no job log: none of its {number} lines is a record; name another file")
    if damaged > MAX_WARNINGS:
        jobs.warnings.append(f"{path}: {damaged - MAX_WARNINGS} more such lines")
    return jobs


def open_job_log(path: str, *, keep: bool, ends_cut: bool = False) -> int:
    """A descriptor to append records to.

    Args:
        path: Created if need be.
        keep: Go on with what is there, instead of starting anew.
        ends_cut: Begin a new line first.

    Raises:
        JobLogError: It cannot be opened or written.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | (0 if keep else os.O_TRUNC), 0o666)
        if ends_cut:
            os.write(fd, b"\n")
    except OSError as error:
        raise JobLogError(f"cannot write the job log {path}: {error.strerror}") from None
    return fd


def _take(jobs: FinishedJobs, line: bytes) -> bool:
    try:
        fields = json.loads(line)
        number, command, end_reason = fields["seq"], fields["command"], fields["end_reason"]
        succeeded = fields["exit"] == 0 and end_reason == EndReason.EXITED.value
    except (ValueError, LookupError, TypeError):
        return False
    if type(number) is not int or not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        return False
    jobs.note(number, command, str(end_reason), succeeded=succeeded)
    return True
