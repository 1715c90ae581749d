"""Reads a job log for `--resume`: which commands need not run again.

A command is identified by its words and its occurrence: the second input with the very same command is another one than
the first. So inputs may be added in front, left out or sorted between two runs.
"""

import collections
import dataclasses
import enum
import json
import os
from collections.abc import Sequence

from aiocmdpool.cli.job_log import JobLogError
from aiocmdpool.commands.result import EndReason

UNFINISHED = {EndReason.CANCELLED.value, EndReason.CLOSED.value}  # ended by this program, so not done
MAX_WARNINGS = 3


class Resume(enum.Enum):
    """The commands in a job log that a run skips."""

    NOTHING = "nothing"
    DONE = "done"
    """Skip every command that has ended, well or not."""
    SUCCEEDED = "succeeded"
    """Skip only commands that ended well; the others run again."""


@dataclasses.dataclass(slots=True)
class FinishedJobs:
    """The finished commands of a job log."""

    ends_cut: bool = False
    """Whether the last line lacks its newline."""
    warnings: list[str] = dataclasses.field(default_factory=list)
    _done: dict[int, bool] = dataclasses.field(default_factory=dict)
    """Whether it succeeded, by the hash of command and occurrence: 100 bytes a job instead of a list of strings."""
    _first_run: dict[int, tuple[int, bool | None]] | None = dataclasses.field(default_factory=dict)
    """Hash and end of each command, by number, while all records so far are of a run that counted no occurrences."""

    def note(
        self, number: int, command: Sequence[str], end_reason: str, *, succeeded: bool, occurrence: int | None = None
    ) -> None:
        """Record the end of a command; the last record of a command and its occurrence counts."""
        ended = None if end_reason in UNFINISHED else succeeded
        if occurrence is None and self._first_run is not None:
            self._first_run[number] = hash(tuple(command)), ended
            return
        self.count_occurrences()
        self._note(hash(tuple(command)), occurrence or 1, ended)

    def count_occurrences(self) -> None:
        """Count the occurrences of the first run, whose records are complete: numbers are in the order of inputs."""
        first_run, self._first_run = self._first_run or {}, None
        counts: collections.Counter[int] = collections.Counter()
        for number in sorted(first_run):
            command, ended = first_run[number]
            counts[command] += 1
            self._note(command, counts[command], ended)

    def _note(self, command: int, occurrence: int, ended: bool | None) -> None:
        key = hash((command, occurrence))
        self._done.pop(key, None)
        if ended is not None:
            self._done[key] = ended

    def covers(self, occurrence: int, command: Sequence[str], resume: Resume) -> bool:
        """Return whether this occurrence of `command` need not run again."""
        if resume is Resume.NOTHING:
            return False
        succeeded = self._done.get(hash((hash(tuple(command)), occurrence)))
        return succeeded is not None and (succeeded or resume is Resume.DONE)


class Occurrences:
    """Counts how often each command has occurred among the inputs."""

    def __init__(self) -> None:
        self._counts: collections.Counter[int] = collections.Counter()

    def next(self, command: Sequence[str]) -> int:
        """Count one occurrence of `command`; return how many there have been."""
        key = hash(tuple(command))
        self._counts[key] += 1
        return self._counts[key]


def read_job_log(path: str, fd: int | None = None) -> FinishedJobs:
    """Return the finished commands of a job log; none if the file does not exist.

    A damaged line in the middle causes a warning, and its command counts as not done.

    Args:
        path: Path of the log.
        fd: Descriptor of the log if it is open for reading already; `None` if not.

    Raises:
        JobLogError: The log cannot be read, or has lines but no record.
    """
    jobs = FinishedJobs()
    records = damaged = number = 0
    try:
        with open(path if fd is None else os.dup(fd), "rb") as file:
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
    jobs.count_occurrences()
    return jobs


def _take(jobs: FinishedJobs, line: bytes) -> bool:
    try:
        fields = json.loads(line)
        number, command, end_reason = fields["seq"], fields["command"], fields["end_reason"]
        succeeded = fields["exit"] == 0 and end_reason == EndReason.EXITED.value
        occurrence = fields.get("occurrence")
    except (ValueError, LookupError, TypeError, AttributeError):
        return False
    if type(number) is not int or not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        return False
    if occurrence is not None and type(occurrence) is not int:
        return False
    jobs.note(number, command, str(end_reason), succeeded=succeeded, occurrence=occurrence)
    return True
