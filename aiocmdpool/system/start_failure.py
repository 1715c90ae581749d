"""Turns the errno of a failed start into an `IoError` that names the command, the cause and the cure."""

import errno
import os
import shutil

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import IoError
from aiocmdpool.standalone.kernel.files import is_fifo
from aiocmdpool.system.stdio import lacks_standard


def start_failure(command: CommandConfig, error: OSError) -> IoError:
    """Return the error for a program that could not be started at all.

    The kernel gives one errno for several causes (execve(2)); a look at the file system tells them apart.
    """
    filename = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else command.program
    cause = _cause(command, error)
    return IoError(f"cannot start {command.display()}: {cause}", errno=error.errno, filename=filename, command=command)


def stream_failure(command: CommandConfig, error: OSError) -> IoError:
    """Return the error for a standard stream that could not be opened."""
    if error.filename == ".":
        return _directory_gone(command, error)
    if error.filename is None or error.errno in (errno.EMFILE, errno.ENFILE):  # the limits on descriptors
        return start_failure(command, OSError(error.errno, error.strerror))
    path = os.fsdecode(error.filename)
    stream = next((name for name in _STREAMS if str(getattr(command, name)) == path), "stream")
    reason = os.strerror(error.errno or 0)
    if error.errno == errno.ENXIO and lacks_standard(os.fsencode(path)):
        reason = "this process was started without that stream"
    elif error.errno == errno.ENXIO and is_fifo(os.fsencode(path)):
        reason = "nobody reads from this FIFO; give the command a timeout, and it waits for a reader"
    return IoError(
        f"cannot start {command.display()}: its {stream} {path!r} cannot be opened: {reason}",
        errno=error.errno,
        filename=path,
        command=command,
    )


def directory_of(command: CommandConfig) -> str:
    """Return a text for messages that names the directory in which `command` was to run."""
    return "the working directory of this process" if command.cwd is None else f"its cwd {command.cwd!r}"


def preparation_failure(command: CommandConfig, stage: str, number: int) -> IoError:
    """Return the error for a setting that could not be applied before the program ran."""
    if stage in _STREAMS:
        path = getattr(command, stage)
        filename = str(path) if isinstance(path, os.PathLike) else None
        return stream_failure(command, OSError(number, os.strerror(number), filename))
    if stage == "program":
        return start_failure(command, OSError(number, os.strerror(number), command.program))
    if stage == "silence":
        why = "the process that was to become it died before that, killed by somebody or for want of memory"
        return IoError(f"cannot start {command.display()}: it has not run: {why}", errno=number, command=command)
    if stage == "cwd":
        place = directory_of(command)
        cause = f"{place} cannot be entered: {os.strerror(number)}"
        if number in (errno.ENOENT, errno.ENOTDIR):
            cause = f"{place} is no directory"
        return IoError(
            f"cannot start {command.display()}: {cause}", errno=number, filename=command.cwd, command=command
        )
    if stage in ("user", "group") and number == 0:
        cause = f"there is no {stage} {getattr(command, stage)!r} on this machine"
        return IoError(f"cannot start {command.display()}: {cause}", errno=errno.EINVAL, command=command)
    setting = _SETTINGS.get(stage, stage)
    cause = f"{setting} could not be applied: {os.strerror(number)}"
    if stage == "user" and number == errno.EINVAL:
        cause += "; a user without an entry on this machine has no groups: give a group as well"
    elif number in (errno.EPERM, errno.EACCES):
        cause += "; this takes a privilege that this process does not have"
    return IoError(f"cannot start {command.display()}: {cause}", errno=number, command=command)


def no_launcher(command: CommandConfig, interpreter: str, error: OSError) -> IoError:
    """Return the error for a program whose launcher cannot be started."""
    why = f"its settings need a Python that applies them, and {interpreter} cannot be started: {error.strerror}"
    return IoError(f"cannot start {command.display()}: {why}", errno=error.errno, filename=interpreter, command=command)


def silent_launcher(command: CommandConfig, interpreter: str, status: int | None, stderr: bytes) -> IoError:
    """Return the error for a launcher that ended without having reported anything.

    Args:
        command: The command that it was to become.
        interpreter: Path of the Python that ran it.
        status: Its wait status; `None` where the host's handling of SIGCHLD hides it.
        stderr: What it wrote to stderr.
    """
    if status is not None and os.WIFSIGNALED(status):
        why = f"the Python that prepares it ({interpreter}) was killed by signal {os.WTERMSIG(status)} before it could"
    else:
        said = os.fsdecode(stderr[-1000:]).strip()
        how = "" if status is None else f" with status {os.waitstatus_to_exitcode(status)}"
        why = (
            f"{interpreter} was to prepare it, and ended{how} before it had come to that: it is no Python here, or "
            "cannot come up with the command's stdin and environment"
            f"{f'; its last words: {said}' if said else ''}"
        )
    return IoError(f"cannot start {command.display()}: it has not run: {why}", errno=errno.EIO, command=command)


MAX_ARG_STRLEN = 131072  # bytes of one argument or variable, including the NUL (execve(2))
_STREAMS = ("stdin", "stdout", "stderr")
_SETTINGS = {
    "RLIMIT_CPU": "limits.cpu_seconds",
    "RLIMIT_AS": "limits.address_space",
    "RLIMIT_NOFILE": "limits.open_files",
    "RLIMIT_FSIZE": "limits.file_size",
}


def _directory_gone(command: CommandConfig, error: OSError) -> IoError:
    """Return the error for a command without a `cwd` if the working directory of this process is gone."""
    message = (
        f"cannot start {command.display()}: the working directory of this process is gone or not to be searched; give "
        "the command a cwd, or os.chdir to a directory that is there"
    )
    return IoError(message, errno=error.errno, command=command)


def shortage(number: int | None) -> str:
    """Return the cure for an errno that means a lack of some resource; empty for others."""
    if number in (errno.EMFILE, errno.ENFILE):
        whose = "this process" if number == errno.EMFILE else "the system"
        return f"{whose} has no file descriptors left; lower concurrency_limit or raise the limit (ulimit -n)"
    if number == errno.EAGAIN:
        return "the limit on processes is reached (ulimit -u, or pids.max of the cgroup)"
    if number == errno.EFBIG:
        return "no file may be as large as is needed, not even one in memory; raise the limit (ulimit -f)"
    return ""


def _cause(command: CommandConfig, error: OSError) -> str:
    reason = os.strerror(error.errno) if error.errno else str(error)
    # Checked only where it may be the reason: a file system that does not answer would block here.
    missing = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES)
    if command.cwd is not None and missing and not os.path.isdir(command.cwd):
        return f"its cwd {command.cwd!r} is no directory"
    if error.errno == errno.E2BIG:
        return _too_long(command)
    if lacking := shortage(error.errno):
        return lacking
    if error.errno == errno.ETXTBSY:
        return f"{command.program!r} is open for writing somewhere, and still was after a second"
    if error.errno in (errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR):
        return _cause_in_file(command, reason)
    if error.errno == errno.EBADF:
        given = ((name, getattr(command, name)) for name in _STREAMS)
        fds = " or ".join(f"{name}={value}" for name, value in given if isinstance(value, int))
        return f"{fds} is no descriptor that is open in this process; keep it open until the start" if fds else reason
    return reason


def _too_long(command: CommandConfig) -> str:
    """Return a text with the limit of execve(2) that was exceeded, and the cure."""
    cure = "pass the data on stdin or in a file"
    for number, arg in enumerate(command.argv):
        if (size := len(os.fsencode(arg)) + 1) > MAX_ARG_STRLEN:
            return f"argument {number} is too long: {size} bytes, more than the {MAX_ARG_STRLEN} one may have; {cure}"
    variables = command.environment(os.environ)
    for name, value in variables.items():
        if (size := len(os.fsencode(f"{name}={value}")) + 1) > MAX_ARG_STRLEN:
            return (
                f"the variable {name!r} of its environment is too long: {size} bytes, more than the {MAX_ARG_STRLEN} "
                f"one may have; {cure}, or leave it out (env={{{name!r}: None}})"
            )
    size = sum(len(os.fsencode(arg)) + 1 for arg in command.argv)
    around = sum(len(os.fsencode(f"{name}={value}")) + 1 for name, value in variables.items())
    return (
        f"argument list too long: {size} bytes in {len(command.argv)} arguments, and {around} in the environment on "
        f"top (execve(2)); {cure}, run several commands, or raise the limit, a quarter of that on the stack (ulimit -s)"
    )


def _cause_in_file(command: CommandConfig, reason: str) -> str:
    program = command.program
    path = os.path.join(command.cwd or "", program)
    if "/" not in program:
        search = command.environment(os.environ).get("PATH", os.defpath)
        found = shutil.which(program, mode=os.F_OK, path=search)
        if found is None:
            return f"no program {program!r} in PATH; install it, or give its full path"
        path = found
    if not os.path.lexists(path):
        return f"no such file: {program!r}"
    if os.path.isdir(path):
        return f"{path!r} is a directory"
    if not os.access(path, os.X_OK):
        return f"{path!r} is not executable; chmod +x it, or name its interpreter as the program"
    try:
        with open(path, "rb") as file:
            first = file.readline(256).rstrip()
    except OSError:
        return f"{path!r}: {reason}"
    if first.startswith(b"#!"):
        return f"{path!r} names an interpreter that cannot be started: {os.fsdecode(first)!r}"
    return f"{path!r}: {reason}; a script needs a first line like #!/bin/sh"
