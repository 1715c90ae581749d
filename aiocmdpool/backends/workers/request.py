"""A command as a request: what goes into the START frame, and which descriptors travel beside it."""

import asyncio
import errno
import os
import pathlib
from collections.abc import Iterable, Mapping

from aiocmdpool.backends.workers.private import is_in_servant, is_private
from aiocmdpool.commands.command import CommandConfig, OutputPolicy, Stdio
from aiocmdpool.commands.run_control import ChildSetup, RunControl
from aiocmdpool.standalone.kernel.files import CREATE, are_one_file, names_process
from aiocmdpool.standalone.wire import messages
from aiocmdpool.standalone.wire.frames import START, encode
from aiocmdpool.system.environment import current_environment
from aiocmdpool.system.fork import keep_from_forks
from aiocmdpool.system.launch import launcher_settings
from aiocmdpool.system.pipes import PipeFeeder
from aiocmdpool.system.stdio import inherited, open_path

LARGEST = 16 * 1024 * 1024  # bytes of a request; the kernel takes 6 MiB of arguments and environment (execve(2))
INLINE_STDIN = 4096  # bytes; what any empty pipe takes at once (PIPE_BUF), so that the worker never has to feed

NOWHERE = (-1, -1)
Directory = tuple[int, int]
"""Device and inode of a directory. The worker has its own open, so the inode is not given to another."""

_POLICIES = {
    OutputPolicy.FAIL: messages.FAIL,
    OutputPolicy.KEEP_HEAD: messages.KEEP_HEAD,
    OutputPolicy.KEEP_TAIL: messages.KEEP_TAIL,
}
_STDIO = {Stdio.NULL: messages.NULL, Stdio.CAPTURE: messages.CAPTURE, Stdio.MERGED: messages.MERGED}
_STANDARD = {"stdin": 0, "stdout": 1, "stderr": 2}


class Request:
    """The frame of one command, with what belongs to it in this process until it is over.

    Raises:
        OSError: There are no descriptors left for a pipe, or too much for the kernel anyway (E2BIG).
    """

    __slots__ = ("__weakref__", "_here", "_opened", "_owned", "descriptors", "feeder", "frame")

    def __init__(
        self,
        number: int,
        command: CommandConfig,
        base: Mapping[bytes, bytes],
        home: Directory,
        group: str,
        control: RunControl | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.descriptors: list[int] = []
        self._owned: list[int] = []
        self.feeder: PipeFeeder | None = None
        try:
            self._opened: dict[str, int] = {}
            self._here = frozenset() if control is None else control.here
            self._build(number, command, base, home, group, control, loop)
        except BaseException:
            self.close()
            raise

    def _build(
        self,
        number: int,
        command: CommandConfig,
        base: Mapping[bytes, bytes],
        home: Directory,
        group: str,
        control: RunControl | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        paths = [b"", b"", b""]
        data = command.stdin if isinstance(command.stdin, bytes) and len(command.stdin) <= INLINE_STDIN else b""
        stdin = messages.DATA if data else self._stream("stdin", command.stdin, paths, loop)
        stdout = self._stream("stdout", command.stdout, paths, loop)
        stderr = self._stream("stderr", command.stderr, paths, loop)
        setup = None if control is None else control.setup
        if setup is not None:
            self.descriptors += setup.pass_fds
        start = messages.Start(
            _seconds(command.timeout),
            command.grace,
            command.leftover_grace,
            _seconds(command.idle_timeout),
            -1 if command.max_output is None else min(command.max_output, 2**63 - 1),
            _POLICIES[command.output_policy],
            int(command.stop_signal),
            messages.DETACH * command.detach + messages.ANNOUNCE * (control is not None),
            stdin,
            stdout,
            stderr,
            len(self.descriptors),
            [os.fsencode(arg) for arg in command.argv],
            environment_changes(command, base),
            [os.fsencode(f"{name}={value}") for name, value in _settings(command, group, setup).items()],
            os.fsencode(_directory(command, home)),
            paths,
            data,
        )
        payload = messages.pack_start(start)
        if len(payload) > LARGEST:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        self.frame = encode(START, number, payload)

    def _stream(
        self,
        name: str,
        stream: bytes | pathlib.Path | Stdio | int,
        paths: list[bytes],
        loop: asyncio.AbstractEventLoop,
    ) -> int:
        if isinstance(stream, Stdio):
            if stream is not Stdio.INHERIT:
                return _STDIO[stream]
            standard = inherited(_STANDARD[name])
            if standard is None:
                return messages.NULL
            stream = standard
        if isinstance(stream, pathlib.Path):
            path = os.fsencode(stream)
            if name not in self._here and not names_process(path):
                paths[_STANDARD[name]] = path
                return messages.PATH
            self.descriptors.append(self._open_here(name, path))
            return messages.OPENED
        if isinstance(stream, bytes):
            if not stream:
                return messages.NULL
            read_end, write_end = os.pipe()
            os.set_blocking(write_end, False)
            self.feeder = PipeFeeder(loop, write_end, stream)
            self._own(read_end)
            stream = read_end
        self.descriptors.append(stream)
        return messages.DESCRIPTOR

    def _open_here(self, name: str, path: bytes) -> int:
        """Open a file that the worker cannot: for it, the path means another one, or is not to be had."""
        if is_in_servant(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        fd = open_path(path, os.O_RDONLY if name == "stdin" else CREATE)
        self._own(fd)
        if is_private(fd):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        if name == "stderr" and "stdout" in self._opened and are_one_file(self._opened["stdout"], fd):
            return self._opened["stdout"]
        self._opened[name] = fd
        return fd

    def _own(self, fd: int) -> None:
        self._owned.append(fd)
        keep_from_forks(self)

    def held(self) -> Iterable[int]:
        """For `keep_from_forks`."""
        return self._owned

    def sent(self) -> None:
        """The descriptors have left: what was opened for the program alone is closed here."""
        for fd in self._owned:
            os.close(fd)
        self._owned.clear()

    def close(self) -> None:
        """It is over."""
        self.sent()
        if self.feeder is not None:
            self.feeder.close()


def _settings(command: CommandConfig, group: str, setup: ChildSetup | None) -> dict[str, str]:
    """What is to be prepared before the program runs."""
    settings = launcher_settings(command)
    if setup is not None:
        settings |= setup.settings()
    if command.detach and group:  # what it leaves behind outlives the worker, and so the worker's control group
        settings["cgroup"] = os.path.dirname(group)
    return settings


def environment_changes(command: CommandConfig, base: Mapping[bytes, bytes]) -> list[bytes]:
    """What to change in the environment that the worker started with, to get that of the command."""
    changes: list[bytes] = []
    if not command.inherit_env:
        changes.append(b"")  # start from nothing
    elif (current := current_environment()) != base:  # this process has changed its own since
        changes += [name + b"=" + value for name, value in current.items() if base.get(name) != value]
        changes += [name for name in base if name not in current]
    for name, value in command.env.items() if command.env else ():
        changes.append(os.fsencode(name if value is None else f"{name}={value}"))
    return changes


def current_directory() -> Directory:
    """What the working directory of this process is: a name could mean another one by now (removed, and made anew)."""
    try:
        status = os.stat(".")
    except OSError:  # it is gone; or this process has dropped root, and may not search it any more
        return NOWHERE
    return status.st_dev, status.st_ino


def _directory(command: CommandConfig, home: Directory) -> str:
    """Where to start the program, empty for where the worker is."""
    if command.cwd is not None:
        return command.cwd
    if current_directory() == home:
        return ""
    try:
        return os.getcwd()
    except OSError as error:  # no worker can be sent there
        raise OSError(error.errno, os.strerror(error.errno or 0), ".") from None


def _seconds(value: float | None) -> float:
    return messages.NONE if value is None else value
