"""`Request`: a command as a START frame, with the descriptors that travel beside it."""

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

LARGEST = 16 * 1024 * 1024  # bytes of a request; the kernel accepts 6 MiB of arguments and environment (execve(2))
INLINE_STDIN = 4096  # bytes that any empty pipe takes at once (PIPE_BUF), so the worker never has to feed

NOWHERE = (-1, -1)
Directory = tuple[int, int]
"""Device and inode of a directory. The worker keeps its own open, so that the inode is not reused."""

_POLICIES = {
    OutputPolicy.FAIL: messages.FAIL,
    OutputPolicy.KEEP_HEAD: messages.KEEP_HEAD,
    OutputPolicy.KEEP_TAIL: messages.KEEP_TAIL,
}
_STDIO = {Stdio.NULL: messages.NULL, Stdio.CAPTURE: messages.CAPTURE, Stdio.MERGED: messages.MERGED}
_STANDARD = {"stdin": 0, "stdout": 1, "stderr": 2}


class Request:
    """The frame of one command, and the resources of this process that belong to it until it is over.

    Raises:
        OSError: No free descriptors for a pipe, or a request larger than the kernel accepts (E2BIG).
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
        """Open a file that the worker cannot open: for it the path means another file, or is inaccessible."""
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
        """Return the descriptors to close in forked children, for `keep_from_forks`."""
        return self._owned

    def sent(self) -> None:
        """Close the descriptors that were opened for the program alone, because they have been sent."""
        for fd in self._owned:
            os.close(fd)
        self._owned.clear()

    def close(self) -> None:
        """Close everything that belongs to the request, because it is over."""
        self.sent()
        if self.feeder is not None:
            self.feeder.close()


def _settings(command: CommandConfig, group: str, setup: ChildSetup | None) -> dict[str, str]:
    """Return the settings to prepare before the program runs."""
    settings = launcher_settings(command)
    if setup is not None:
        settings |= setup.settings()
    if command.detach and group:  # leftovers outlive the worker, and so they need another control group than its own
        settings["cgroup"] = os.path.dirname(group)
    return settings


def environment_changes(command: CommandConfig, base: Mapping[bytes, bytes]) -> list[bytes]:
    """Return the changes from the environment `base`, which the worker started with, to that of `command`."""
    changes: list[bytes] = []
    if not command.inherit_env:
        changes.append(b"")  # an empty name: start from nothing
    elif (current := current_environment()) != base:  # this process has changed its own since
        changes += [name + b"=" + value for name, value in current.items() if base.get(name) != value]
        changes += [name for name in base if name not in current]
    for name, value in command.env.items() if command.env else ():
        changes.append(os.fsencode(name if value is None else f"{name}={value}"))
    return changes


def current_directory() -> Directory:
    """Return the device and inode of the working directory; its path may have been removed and made anew."""
    try:
        status = os.stat(".")
    except OSError:  # it is gone; or this process has dropped root and may not search it
        return NOWHERE
    return status.st_dev, status.st_ino


def _directory(command: CommandConfig, home: Directory) -> str:
    """Return the directory to start the program in; empty for the worker's own, `home`."""
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
