"""`LiveProcess`: a program that its caller talks to while it runs.

    open_process ── pipes ── run in a task of its own ── started ── the block ── leave: end, reap, close

Its bytes go directly between the program and this process, whoever started it: the kernel provides back-pressure.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Collection

from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig, OutputPolicy
from aiocmdpool.commands.errors import ConfigError
from aiocmdpool.commands.pipeline import check_command
from aiocmdpool.commands.result import CommandResult, EndReason
from aiocmdpool.live.controlled import ControlledExecutor, check_controlled
from aiocmdpool.live.events import OutputEvent, events_of
from aiocmdpool.live.input_stream import InputStream
from aiocmdpool.live.output_stream import OutputStream
from aiocmdpool.live.owned_run import OwnedRun
from aiocmdpool.live.silence import SilenceWatch
from aiocmdpool.live.terminal import WindowSize, check_size, resize
from aiocmdpool.live.wiring import ALL, Wiring
from aiocmdpool.loops.waiting import wait_through
from aiocmdpool.system.capture import Capture
from aiocmdpool.system.pipes import PipeReader

EXIT_TIMEOUT = 0.25  # seconds to exit for a program that is left after its last byte, as the end of a pipe comes first


@contextlib.asynccontextmanager
async def open_process(
    executor: ControlledExecutor,
    command: CommandConfig,
    *,
    streams: Collection[str] = ALL,
    pty: bool | WindowSize = False,
) -> AsyncIterator["LiveProcess"]:
    """Start a program and talk to it inside of the block; see `LiveProcess`.

    Leaving the block ends the program as a cancellation would: stop signal, `grace`, SIGKILL, clean-up; it is dead and
    reaped before the block is left, however often that is cancelled. Its output meanwhile is dropped. A program whose
    stdout or stderr has been read to the end is given a moment to exit by itself; to wait longer, await `wait()` in the
    block.

    Args:
        executor: The executor that starts the program.
        command: The command to start. Its stdin is a pipe unless the command says otherwise: `b""` is the null device.
            Its `max_output` does not apply to output that is read here.
        streams: Names of the streams that become pipes, unless the command redirects them. Output on the others is
            captured, as in any run.
        pty: Whether they are one terminal instead, with a window of 24 rows and 80 columns, or of the size given. It
            controls the program's session; what is written to it and what the program writes comes on `stdout`, as on a
            screen: with an echo and with `\\r\\n`. `stdin.close()` sends its EOF character, while it reads lines.

    Raises:
        ConfigError: The window cannot be of that size, or the command leaves no stream to the terminal; or `command`,
            `streams` or `pty` is something else than it has to be.
        IoError: The program could not be started; nothing is left open.
        ExecuteError: On leaving a block that raised nothing itself: the reason why the program was ended
            (`CommandTimeout`, `NonZeroExit` with `check`, `WorkerLost`), unless `wait` or `result` have raised it
            before. Or the executor can only run commands to their end.
    """
    check_command(command)
    if pty is not None and not isinstance(pty, int | WindowSize):
        message = f"pty: {validate.shown(pty)} is neither a bool nor a WindowSize; give WindowSize(rows=24, columns=80)"
        raise ConfigError(message, field="pty")
    window = pty if isinstance(pty, WindowSize) else WindowSize() if pty else None
    check_controlled(executor, command)
    process = LiveProcess(executor, command, streams, window)
    await process._start()
    owner = os.getpid()
    try:
        yield process
    except BaseException:
        if os.getpid() == owner:  # a forked child that unwinds leaves the program of its parent alone
            await process._leave(hurry=True)
        raise
    if os.getpid() == owner:
        await process._leave()
        process._raise_unseen()


class LiveProcess:
    """A running program; made by `open` of a pool or backend.

    Concurrency: belongs to the loop it was opened on; one reader for each stream, one writer.

    Example:
        >>> async with backend.open(CommandConfig("bc")) as process:
        ...     process.stdin.write(b"6 * 7\\n")
        ...     await process.stdout.read_line()
        b'42\\n'
    """

    def __init__(
        self,
        executor: ControlledExecutor,
        command: CommandConfig,
        streams: Collection[str],
        window: WindowSize | None = None,
    ) -> None:
        wiring = Wiring(command, streams, window)
        ours = wiring.ours
        self.command = command
        self._has_terminal = window is not None
        self._stdin = None
        if "stdin" in ours:
            self._stdin = InputStream(ours.pop("stdin"), command, is_terminal=self._has_terminal)
        self._outputs = {
            name: OutputStream(fd, name, self._heard, encoding=command.encoding) for name, fd in ours.items()
        }
        self._silence: SilenceWatch | None = None
        self._seen = False
        changes = {**wiring.changes, "idle_timeout": None}
        self._run = OwnedRun(executor, command, changes, wiring.theirs, wiring.setup)

    # -- talking ----------------------------------------------------------------------------------------------------

    @property
    def stdin(self) -> InputStream:
        """Return the stream that writes to the program's stdin."""
        if self._stdin is None:
            raise ValueError(f"{self.command.display()}: its stdin is no pipe, but {self.command!r}")
        return self._stdin

    @property
    def stdout(self) -> OutputStream:
        """Return the stream that reads the program's stdout.

        Raises:
            ValueError: The command redirects its stdout.
        """
        return self._output("stdout")

    @property
    def stderr(self) -> OutputStream:
        """Return the stream that reads the program's stderr; raises like `stdout`."""
        return self._output("stderr")

    def events(self) -> AsyncIterator[OutputEvent]:
        """Iterate over pieces of both outputs in order of arrival, to the end of both.

        The kernel keeps no order between two pipes; to keep that of the writes, use `stderr=Stdio.MERGED`.
        """
        return events_of(list(self._outputs.values()))

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the terminal's window, in characters; the programs in it get SIGWINCH.

        Raises:
            ConfigError: No window can have that size.
            ValueError: It was not opened with `pty`, or the terminal has been read to its end.
        """
        size = WindowSize(rows, columns)
        check_size(size)
        fd = next((stream.pipe.fd for stream in self._outputs.values()), -1)
        if not self._has_terminal or fd < 0:
            raise ValueError(f"{self.command.display()}: it has no terminal (any more)")
        resize(fd, size)

    def _output(self, name: str) -> OutputStream:
        stream = self._outputs.get(name)
        if stream is None:
            raise ValueError(
                f"{name} of {self.command.display()} is not read here, but goes elsewhere: {self.command!r}"
            )
        return stream

    # -- its life ---------------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """Return the process id of the program."""
        assert self._run.pid is not None
        return self._run.pid

    @property
    def returncode(self) -> int | None:
        """Return the exit status as in `CommandResult`; `None` while the program runs."""
        return None if self._run.result is None else self._run.result.returncode

    def send_signal(self, number: int) -> None:
        """Send the signal `number` to the program alone, not to its group; harmless after its end."""
        self._run.send_signal(number)

    def terminate(self) -> None:
        """Ask the program to end (SIGTERM)."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Force the program to end (SIGKILL); its leftovers are killed as in any run."""
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for the end of the program and return its exit status, or `-N` for signal N.

        A program that waits for a reader does not end: read its output.

        Raises:
            ExecuteError: The same errors as for `result`.
        """
        return (await self.result()).returncode

    async def result(self) -> CommandResult:
        """Wait for the end of the program and return its result, without the output that is read here.

        Cancellation: ends the wait alone.

        Raises:
            CommandTimeout: `timeout` or `idle_timeout` passed.
            NonZeroExit: The program failed, and its command has `check`.
            TaskCancelled: The block was left before its end, or the executor was closed.
            ExecuteError: See `CommandExecutor.execute`.
        """
        await asyncio.wait((self._run.task,))
        self._seen = True
        return self._run.result_or_error()

    # -- for `open_process` -----------------------------------------------------------------------------------------

    async def _start(self) -> None:
        """Wait until the program runs, or raise the error of its start."""
        cancelled = await wait_through(self._run.begun, on_cancel=self._run.end)
        if cancelled is not None:
            await self._leave(hurry=True)
            raise cancelled
        if self._run.pid is None:
            await self._leave(hurry=True)
            self._run.result_or_error()
        if self.command.idle_timeout is not None and self._outputs:
            self._silence = SilenceWatch(
                self.command.idle_timeout, self._outputs.values(), lambda: self._run.end(EndReason.IDLE_TIMEOUT)
            )
            self._run.task.add_done_callback(lambda _: self._stop_listening())

    def _heard(self) -> None:
        if self._silence is not None:
            self._silence.heard()

    def _stop_listening(self) -> None:
        if self._silence is not None:
            self._silence.close()

    async def _leave(self, *, hurry: bool = False) -> None:
        """End the program, and close all streams.

        Raises:
            CancelledError: This call was cancelled meanwhile; everything is done nevertheless.
        """
        if self._stdin is not None:
            self._stdin.abandon()
        task, cancelled = self._run.task, None
        if not hurry and any(stream.at_end for stream in self._outputs.values()):
            cancelled = await wait_through(task, EXIT_TIMEOUT, on_cancel=self._run.end)
        self._run.end()
        drains = [self._drop(fd) for stream in self._outputs.values() if (fd := stream.pipe.detach()) >= 0]
        try:
            cancelled = await wait_through(task) or cancelled
        finally:
            for drain in drains:
                drain.close()
        if cancelled is not None:
            raise cancelled

    def _drop(self, fd: int) -> PipeReader:
        """Read on and drop the output: a program that is asked to end must not block on a write, or die of SIGPIPE."""
        nothing = Capture(0, OutputPolicy.KEEP_HEAD)
        loop = asyncio.get_running_loop()
        return PipeReader(loop, fd, nothing, on_data=_ignore, on_limit=_ignore, on_end=_ignore)

    def _raise_unseen(self) -> None:
        """Raise the error of the run if the caller has not seen it, unless the run was ended from here."""
        if not self._seen and not self._run.was_cancelled:
            self._run.result_or_error()

    def __repr__(self) -> str:
        code = self.returncode
        state = "running" if not self._run.task.done() else "ended" if code is None else f"ended with {code}"
        return f"<LiveProcess {self._run.pid} {self.command.display()!r} {state}>"


def _ignore() -> None:
    pass
