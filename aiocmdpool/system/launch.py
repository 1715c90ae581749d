"""Starts the program of a command in this process: directly, or through the launcher where that is needed."""

import contextlib
import errno
import fcntl
import os
import pathlib
import signal
import subprocess
from typing import NamedTuple

import aiocmdpool.standalone
from aiocmdpool.commands.command import CommandConfig, Stdio
from aiocmdpool.commands.errors import IoError
from aiocmdpool.commands.run_control import ChildSetup
from aiocmdpool.standalone.kernel.launcher import EXEC, NESTED, lc_ctype_of
from aiocmdpool.standalone.kernel.oom import yield_memory_first
from aiocmdpool.system import interpreter
from aiocmdpool.system.environment import environment_of
from aiocmdpool.system.start_failure import no_launcher, start_failure
from aiocmdpool.system.stdio import ChildStdio

LAUNCHER = str(pathlib.Path(aiocmdpool.standalone.__path__[0], "kernel", "launcher.py"))


class Report(NamedTuple):
    """The report of the launcher about the start of the program and, as a supervisor, about its exit."""

    is_silent: bool = False
    """Whether the launcher reported nothing although it had to, so that the program has not run."""
    error_stage: str | None = None
    error_number: int = 0
    pid: int | None = None
    wait_status: int | None = None
    usage: tuple[float, float, int] | None = None


class Launched:
    """A started process, leader of its own session and group, and not yet reaped.

    Attributes:
        pid: Its process id.
        launcher: The interpreter that runs the launcher; empty without one.
    """

    __slots__ = ("_popen", "_report_fd", "launcher", "pid")

    def __init__(self, popen: "subprocess.Popen[bytes]", report_fd: int, launcher: str) -> None:
        self._popen = popen
        self._report_fd = report_fd
        self.pid = popen.pid
        self.launcher = launcher

    def reaped(self, returncode: int) -> None:
        """Set the exit status in `Popen`, so that it never signals another process with this pid, nor waits for it."""
        self._popen.returncode = returncode

    def report(self) -> Report:
        """Return the launcher's report, complete once the process has exited; empty without a launcher."""
        if self._report_fd < 0:
            return Report()
        with contextlib.closing(os.fdopen(self._report_fd, "rb", buffering=0)) as file:
            self._report_fd = -1
            return _parse_report(file.read(4096) or b"")

    def close(self) -> None:
        """Close a report that was not read."""
        if self._report_fd >= 0:
            os.close(self._report_fd)
            self._report_fd = -1


def launch(
    command: CommandConfig,
    stdio: ChildStdio,
    mark: bytes,
    setup: ChildSetup | None = None,
    python: str | None = None,
) -> Launched:
    """Start the program as leader of a new session and process group, with `mark` in its environment.

    `subprocess.Popen` uses vfork(2) for this: the cost does not grow with the memory of this process.

    Args:
        command: The command to start.
        stdio: Its streams.
        mark: Mark for its environment, inherited by all that it starts.
        setup: Further settings of its process.
        python: Path of the Python that prepares it, if it needs that; see `interpreter.find`.

    Raises:
        IoError: The program could not be started; nothing runs then.
    """
    settings = launcher_settings(command)
    settings |= {name: os.fsencode(path).hex() for name, path in stdio.waiting.items()}  # a name may contain a newline
    if "stdout" in stdio.waiting and command.stderr is Stdio.MERGED:
        settings["merged"] = ""  # Popen has merged stderr into the stream that the launcher replaces
    passed: tuple[int, ...] = ()
    if setup is not None:
        settings |= setup._replace(new_session=False, pass_fds=()).settings()  # Popen does these itself
        passed = setup.pass_fds
    if signal.pthread_sigmask(signal.SIG_BLOCK, ()):  # a program would inherit the signals that this thread blocks
        settings["sigmask"] = ""
    supervise = signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
    argv, environment = command.argv, environment_of(command, mark)  # without what C libraries have put there
    report_fd, status_fd = -1, -1
    try:
        if settings or supervise:
            report_fd, status_fd = os.pipe()
            os.set_blocking(report_fd, False)
            status_fd = above_standard(status_fd)
            argv = _launcher_argv(command, status_fd, settings, supervise, python)
            environment[os.fsencode(NESTED)] = b"1"
        popen = subprocess.Popen(
            argv,
            stdin=stdio.stdin,
            stdout=stdio.stdout,
            stderr=stdio.stderr,
            cwd=command.cwd,
            env=environment,
            start_new_session=True,
            pass_fds=(*passed, status_fd) if status_fd >= 0 else passed,
        )
    except OSError as error:
        if report_fd >= 0:
            os.close(report_fd)
        raise _why_not_started(command, argv[0] if report_fd >= 0 else None, error) from None
    finally:
        if status_fd >= 0:
            os.close(status_fd)
    yield_memory_first(str(popen.pid))
    return Launched(popen, report_fd, argv[0] if report_fd >= 0 else "")


def _why_not_started(command: CommandConfig, launcher: str | None, error: OSError) -> Exception:
    """Return the error for a failed start, by way of the interpreter `launcher` if there is one."""
    if launcher is not None and isinstance(error, IoError):  # no interpreter
        return error
    if launcher is not None and error.filename == launcher:
        return no_launcher(command, launcher, error)
    return start_failure(command, error)


def above_standard(fd: int) -> int:
    """Return `fd`, or, closing it, a duplicate above 2 whose number the standard streams of a child cannot replace."""
    if fd > 2:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


def launcher_settings(command: CommandConfig) -> dict[str, str]:
    """Return the settings by name that are to be applied before the program runs; empty for most commands."""
    if not command.needs_preparing:
        return {}
    wanted = {
        "niceness": command.niceness or None,
        "RLIMIT_CPU": command.limits.cpu_seconds,
        "RLIMIT_AS": command.limits.address_space,
        "RLIMIT_NOFILE": command.limits.open_files,
        "RLIMIT_FSIZE": command.limits.file_size,
        "group": command.group,
        "user": command.user,
        "umask": command.umask,
        "no_new_privs": 1 if command.no_new_privs else None,
    }
    return {name: str(value) for name, value in wanted.items() if value is not None}


def _launcher_argv(
    command: CommandConfig, status_fd: int, settings: dict[str, str], supervise: bool, python: str | None
) -> list[str]:
    try:
        launcher = interpreter.find(python).argv(LAUNCHER)
    except interpreter.NoPython as error:
        raise IoError(
            f"cannot start {command.display()}: its settings ({', '.join(settings) or 'SIGCHLD is ignored'}) need a "
            f"Python interpreter to apply them, and it has not run: {error}",
            errno=errno.ENOEXEC,
            command=command,
        ) from None
    settings = {**settings, "lc_ctype": lc_ctype_of(command.environment(os.environ))}
    items = [f"{name}={value}" for name, value in settings.items()]
    mode = "supervise" if supervise else "exec"
    return [*launcher, str(status_fd), mode, str(len(items)), *items, *command.argv]


def _parse_report(data: bytes) -> Report:
    report = Report(is_silent=EXEC not in data)
    for line in data.decode().splitlines():
        kind, *rest = line.split()
        if kind == "error":
            report = report._replace(error_stage=rest[0], error_number=int(rest[1]))
        elif kind == "pid":
            report = report._replace(pid=int(rest[0]))
        elif kind == "exit":
            usage = (float(rest[1]), float(rest[2]), int(rest[3]))
            report = report._replace(wait_status=int(rest[0]), usage=usage)
    return report
