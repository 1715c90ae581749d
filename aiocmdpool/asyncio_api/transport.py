"""asyncio's transport of a subprocess, over a program that a worker has started.

`asyncio.base_subprocess.BaseSubprocessTransport` is where asyncio itself, and each of its loops, puts in what starts
programs: `_start` gives it something like a `Popen`, `_process_exited` the exit status. All else is its own: the pipes
and their protocols, who is told what and in which order, `close`.
"""

import signal
from asyncio import base_subprocess
from collections.abc import Callable, Iterable
from io import FileIO
from typing import Any, Literal

from aiocmdpool.system.fork import keep_from_forks


class _Pipe(FileIO):
    """Our end of a pipe."""

    def __init__(self, fd: int, mode: Literal["r", "w"] = "r") -> None:
        super().__init__(fd, mode)
        keep_from_forks(self)

    def held(self) -> Iterable[int]:
        """For `keep_from_forks`."""
        return () if self.closed else (self.fileno(),)


class WorkerProcess:
    """What stands for `subprocess.Popen`: a program that is not a child of this process.

    It cannot be waited for by blocking: what comes from a worker comes over the loop.

    Attributes:
        args: The program and its arguments.
        pid: Of the program.
        returncode: As for `Popen`; `None` as long as it is not known to have exited.
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
        """Its exit status, if it is known."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Signal the program alone; harmless after its end."""
        if self.returncode is None:
            self._send_signal(number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Force it to end."""
        self.send_signal(signal.SIGKILL)

    def __repr__(self) -> str:
        return f"<WorkerProcess {self.pid} {self.args!r}>"


class WorkerSubprocessTransport(base_subprocess.BaseSubprocessTransport):
    """A transport over a `WorkerProcess`; signals go to it, and so to the worker."""

    _proc: WorkerProcess | None  # type: ignore[assignment]  # it stands for Popen

    def _start(  # type: ignore[override]  # the keyword arguments are passed through
        self, *, process: WorkerProcess, **_: Any
    ) -> None:
        self._proc = process

    def _process(self) -> WorkerProcess:
        if self._proc is None:
            raise ProcessLookupError
        return self._proc

    def send_signal(self, signal: int) -> None:
        """Signal the program.

        Raises:
            ProcessLookupError: It has ended.
        """
        self._process().send_signal(signal)

    def terminate(self) -> None:
        """As `send_signal` with SIGTERM."""
        self._process().terminate()

    def kill(self) -> None:
        """As `send_signal` with SIGKILL."""
        self._process().kill()
