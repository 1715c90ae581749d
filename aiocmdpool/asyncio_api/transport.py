"""asyncio's transport of a subprocess, for a program that a worker has started.

In `asyncio.base_subprocess.BaseSubprocessTransport`, each loop of asyncio adds the code that starts programs: `_start`
sets an object like a `Popen`, `_process_exited` the exit status. All else is asyncio's own: the pipes and their
protocols, the order of callbacks, `close`.
"""

import signal
from asyncio import base_subprocess
from collections.abc import Callable, Iterable
from io import FileIO
from typing import Any, Literal

from aiocmdpool.system.fork import keep_from_forks


class _Pipe(FileIO):
    """Our end of a pipe, as a file object."""

    def __init__(self, fd: int, mode: Literal["r", "w"] = "r") -> None:
        super().__init__(fd, mode)
        keep_from_forks(self)

    def held(self) -> Iterable[int]:
        """Return the descriptors to close in forked children, for `keep_from_forks`."""
        return () if self.closed else (self.fileno(),)


class WorkerProcess:
    """A substitute for `subprocess.Popen`, for a program that is not a child of this process.

    It has no blocking wait, because messages of a worker arrive over the loop.

    Attributes:
        args: The program and its arguments.
        pid: Process id of the program.
        returncode: As for `Popen`; `None` until the exit is known.
        stdin, stdout, stderr: Our ends of its pipes.
    """

    def __init__(self, args: object, pid: int, pipes: dict[str, int], send_signal: Callable[[int], None]) -> None:
        self.args = args
        self.pid = pid
        self.returncode: int | None = None
        self.stdin = _Pipe(pipes["stdin"], "w") if "stdin" in pipes else None
        self.stdout = _Pipe(pipes["stdout"]) if "stdout" in pipes else None
        self.stderr = _Pipe(pipes["stderr"]) if "stderr" in pipes else None
        self._send_signal = send_signal

    def poll(self) -> int | None:
        """Return the exit status if it is known, `None` otherwise."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send the signal `number` to the program alone; harmless after its end."""
        if self.returncode is None:
            self._send_signal(number)

    def terminate(self) -> None:
        """Ask the program to end, by SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Force the program to end, by SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def __repr__(self) -> str:
        return f"<WorkerProcess {self.pid} {self.args!r}>"


class WorkerSubprocessTransport(base_subprocess.BaseSubprocessTransport):
    """A transport for a `WorkerProcess`; signals are sent by way of it."""

    _proc: WorkerProcess | None  # type: ignore[assignment]  # in place of Popen

    def _start(  # type: ignore[override]  # the keyword arguments are passed through
        self, *, process: WorkerProcess, **_: Any
    ) -> None:
        self._proc = process

    def _process(self) -> WorkerProcess:
        if self._proc is None:
            raise ProcessLookupError
        return self._proc

    def send_signal(self, signal: int) -> None:
        """Send a signal to the program.

        Raises:
            ProcessLookupError: The program has ended.
        """
        self._process().send_signal(signal)

    def terminate(self) -> None:
        """Ask the program to end; see `send_signal` with SIGTERM."""
        self._process().terminate()

    def kill(self) -> None:
        """Force the program to end; see `send_signal` with SIGKILL."""
        self._process().kill()
