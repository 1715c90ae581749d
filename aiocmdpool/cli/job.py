"""`Job`: one input with its command, its attempts and its output."""

import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from aiocmdpool.cli.ending import Ending, fault_ending
from aiocmdpool.cli.job_log import JobRecord
from aiocmdpool.cli.output.lines import Lines, Whole
from aiocmdpool.cli.output.order import Slot
from aiocmdpool.cli.output.spool import Spool
from aiocmdpool.cli.output.stream import OutputStream, open_pipes
from aiocmdpool.cli.output.writer import STDERR, STDOUT
from aiocmdpool.cli.verdict import AttemptOutcome
from aiocmdpool.commands.command import CommandConfig, CommandOptions
from aiocmdpool.commands.errors import ConfigError

if TYPE_CHECKING:
    from aiocmdpool.tasks.handle import TaskHandle


class Job:
    """One input, the command made of it, and the attempts to run that.

    Args:
        number: Number of the input, from 1.
        text: The input.
        argv: The command line.
        slot: Place of its output in the order.
        tag: Prefix of each line of output; empty for none.
        occurrence: Number of inputs so far with this very command; `None` if that is not counted.

    Attributes:
        attempts: Number of attempts so far.
        handle: Handle of the present attempt in the pool.
        ending: Reason why this program is ending that attempt; `None` if it is not.
        ended_at: End of the last attempt in seconds since the epoch.
    """

    __slots__ = (
        "_open",
        "_streams",
        "_whole",
        "argv",
        "attempts",
        "ended_at",
        "ending",
        "handle",
        "number",
        "occurrence",
        "slot",
        "tag",
        "text",
    )

    def __init__(
        self, number: int, text: str, argv: Sequence[str], slot: Slot, tag: bytes, occurrence: int | None = None
    ) -> None:
        self.number = number
        self.text = text
        self.argv = argv
        self.slot = slot
        self.tag = tag
        self.occurrence = occurrence
        self.attempts = 0
        self.handle: TaskHandle | None = None
        self.ending: Ending | None = None
        self.ended_at = 0.0
        self._streams: tuple[OutputStream, ...] = ()
        self._whole: tuple[Whole, ...] = ()
        self._open = 0

    def command(self, options: CommandOptions, *, live: bool, limit: int | None) -> CommandConfig:
        """Return the command of the next attempt, which writes into our pipes; `end` closes them.

        Args:
            options: Options that all commands of the run share.
            live: Whether to write lines as they come, instead of all output at the end.
            limit: Most bytes of each stream; `None` for no limit.
        """
        self.attempts += 1
        self.ending = None
        self.drop()
        out, err = open_pipes()
        try:
            streams: CommandOptions = {**options, "stdout": out[1], "stderr": err[1]}
            command = CommandConfig(self.argv[0], self.argv[1:], **streams)
        except ConfigError:
            for fd in (*out, *err):
                os.close(fd)
            self._streams = ()
            raise
        shapes = (Lines(self.tag), Lines(self.tag)) if live else (Whole(self.tag), Whole(self.tag))
        self._whole = tuple(shape for shape in shapes if isinstance(shape, Whole))
        self._streams = self._stream(out, STDOUT, shapes[0], limit), self._stream(err, STDERR, shapes[1], limit)
        return command

    def watch(self) -> None:
        """Read the output as it comes, from now on."""
        for stream in self._streams:
            stream.resume()

    def started(self) -> None:
        """Close our copies of the pipes' write ends, which the program has now: descriptors may be scarce."""
        for stream in self._streams:
            stream.close_write_end()

    def end_by(self, ending: Ending) -> None:
        """End the attempt with this ending; the first one counts."""
        self.ending = self.ending or ending
        if self.handle is not None:
            self.handle.cancel()

    def end(self, then: Callable[[], None]) -> None:
        """Note the end of the attempt; call `then`, maybe at once, when all of its output has come."""
        self.ended_at = time.time()
        self._open = len(self._streams)
        if not self._streams:
            then()

        def closed() -> None:
            self._open -= 1
            if not self._open:
                then()

        for stream in self._streams:
            stream.end(closed)

    def hurry(self) -> None:
        """Stop waiting for a slow reader of the output."""
        for stream in self._streams:
            stream.is_patient = False

    def write_whole(self) -> None:
        """Write the output that was kept until now, each stream in one piece."""
        for fd, whole in zip((STDOUT, STDERR), self._whole, strict=False):
            self.slot.write(fd, whole.spool)
        self._whole = ()

    def record(self, outcome: AttemptOutcome) -> JobRecord:
        """Return the record of the job for the job log."""
        result, handle = outcome.result, self.handle
        code = result.returncode if result is not None else None
        started = handle.started_at if handle is not None and outcome.may_have_run else None
        if result is not None:
            runtime: float | None = result.duration
        else:  # the worker was lost; the handle uses the monotonic clock
            runtime = time.monotonic() - started if started is not None else None
        ended_at = self.ended_at or time.time()
        sizes = [stream.size for stream in self._streams] or [0, 0]
        return JobRecord(
            seq=self.number,
            occurrence=self.occurrence,
            input=self.text,
            command=self.argv,
            start=round(ended_at - runtime, 3) if runtime is not None else None,
            end=round(ended_at, 3),
            runtime=round(runtime, 6) if runtime is not None else None,
            exit=code if code is not None and code >= 0 else None,
            signal=-code if code is not None and code < 0 else None,
            end_reason=outcome.end_reason,
            attempts=self.attempts,
            stdout_bytes=sizes[0],
            stderr_bytes=sizes[1],
            usage=result.usage if result is not None else None,
            leaked=result.leaked if result is not None else (),
            error=outcome.message,
        )

    def drop(self) -> None:
        """Discard the output that was kept and not written."""
        for whole in self._whole:
            whole.spool.close()
        self._whole = ()

    def _stream(self, pipe: tuple[int, int], fd: int, shape: Lines | Whole, limit: int | None) -> OutputStream:
        stream: OutputStream

        def emit(lines: Spool) -> None:
            self.slot.write(fd, lines)
            if self.slot.is_congested:
                stream.pause()
                self.slot.when_clear(stream.resume)

        def fail(fault: Exception) -> None:
            self.end_by(fault_ending(fault, limit))

        stream = OutputStream(pipe, shape, emit, fail, limit)
        return stream
