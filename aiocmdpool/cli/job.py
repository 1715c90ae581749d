"""One input on its way: the command made of it, its attempts, and the path of its output."""

import time
from collections.abc import Callable, Sequence

from aiocmdpool.cli.job_log import JobRecord
from aiocmdpool.cli.output.lines import LineStream, open_pipes, tag_lines
from aiocmdpool.cli.output.order import Slot
from aiocmdpool.cli.output.writer import STDERR, STDOUT
from aiocmdpool.cli.verdict import Outcome
from aiocmdpool.commands.command import CommandConfig, CommandOptions


class Job:
    """One input and its command.

    Args:
        number: Of the input, from 1.
        text: The input.
        argv: The command line.
        slot: Its place in the order of the output.
        tag: Put before each line; empty for none.
    """

    __slots__ = ("_live", "_open", "argv", "attempts", "number", "slot", "tag", "text")

    def __init__(self, number: int, text: str, argv: Sequence[str], slot: Slot, tag: bytes) -> None:
        self.number = number
        self.text = text
        self.argv = argv
        self.slot = slot
        self.tag = tag
        self.attempts = 0
        self._live: tuple[LineStream, ...] = ()
        self._open = 0

    def command(self, options: CommandOptions, *, live: bool) -> CommandConfig:
        """The command of the next attempt.

        Args:
            options: What all commands of the run share.
            live: Give it pipes that are read line by line, instead of having its output captured. `end` closes them.
        """
        self.attempts += 1
        if not live:
            return CommandConfig(self.argv[0], self.argv[1:], **options)
        command = CommandConfig(self.argv[0], self.argv[1:], **options)  # may be refused, and then opens nothing
        out, err = open_pipes()
        self._live = (self._stream(out, STDOUT), self._stream(err, STDERR))
        return command.with_options(stdout=self._live[0].write_fd, stderr=self._live[1].write_fd)

    def end(self, then: Callable[[], None]) -> None:
        """The attempt has ended; call back, maybe at once, when all of its live output has come."""
        if not self._live:
            then()
            return
        self._open = len(self._live)

        def closed() -> None:
            self._open -= 1
            if not self._open:
                then()

        for stream in self._live:
            stream.end(closed)

    def hurry(self) -> None:
        """Do not wait for a slow reader any more."""
        for stream in self._live:
            stream.is_patient = False

    def write_captured(self, outcome: Outcome) -> tuple[int, int]:
        """Write what the result holds, each stream in one piece; the bytes that came on stdout and stderr."""
        if self._live:
            return self._live[0].size, self._live[1].size
        if outcome.result is None:
            return 0, 0
        out, err = outcome.result.stdout or b"", outcome.result.stderr or b""
        self.slot.write(STDOUT, tag_lines(self.tag, out) if self.tag else out)
        self.slot.write(STDERR, tag_lines(self.tag, err) if self.tag else err)
        return len(out), len(err)

    def record(self, outcome: Outcome, sizes: tuple[int, int]) -> JobRecord:
        """What the job log keeps of it."""
        result = outcome.result
        code = result.returncode if result is not None else None
        runtime = result.duration if result is not None else 0.0
        return JobRecord(
            seq=self.number,
            input=self.text,
            command=self.argv,
            start=round(time.time() - runtime, 3),
            runtime=round(runtime, 6),
            exit=code if code is not None and code >= 0 else None,
            signal=-code if code is not None and code < 0 else None,
            end_reason=outcome.end_reason,
            attempts=self.attempts,
            stdout_bytes=sizes[0],
            stderr_bytes=sizes[1],
            error=outcome.message,
        )

    def _stream(self, pipe: tuple[int, int], fd: int) -> LineStream:
        stream: LineStream

        def emit(lines: bytes) -> None:
            self.slot.write(fd, tag_lines(self.tag, lines) if self.tag else lines)
            if self.slot.is_congested:
                stream.pause()
                self.slot.when_clear(stream.resume)

        stream = LineStream(pipe, emit)
        return stream
