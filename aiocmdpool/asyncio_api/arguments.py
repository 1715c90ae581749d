"""Converts the arguments of `subprocess.Popen` that asyncio passes on into a command and its process settings."""

import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, TypedDict

from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig, Stdio, StrOrBytesPath
from aiocmdpool.commands.run_control import ChildSetup

Stream = int | IO[Any] | None
"""A stream: `PIPE`, `DEVNULL`, `STDOUT`, a descriptor, a file object, or `None` for that of this process."""

SHELL = "/bin/sh"
MAX_PASSED = 250  # plus the standard streams, this is what one message carries (SCM_MAX_FD, unix(7))
_TEXT = ("universal_newlines", "text", "encoding", "errors")


class PopenArguments(TypedDict, total=False):
    """Keyword arguments of `subprocess.Popen` that are supported, with the meaning in its documentation.

    Two differences: `user` brings its groups along, in place of those of this process, unless others are given.
    `detach` is an addition: processes that the program leaves running after its own exit are spared instead of killed.
    """

    cwd: StrOrBytesPath | None
    env: Mapping[Any, Any] | None
    executable: StrOrBytesPath | None
    pass_fds: Sequence[int]
    close_fds: bool
    start_new_session: bool
    process_group: int | None
    umask: int
    user: str | int | None
    group: str | int | None
    extra_groups: Iterable[str | int] | None
    pipesize: int
    detach: bool


def refuse_text(options: dict[str, Any], *, shell: bool) -> None:
    """Remove options that asyncio accepts in one form only: bytes, unbuffered, and `shell` as in the function's name.

    Raises:
        ValueError: One of them has another value.
    """
    for name in _TEXT:
        if options.pop(name, None):
            raise ValueError(f"{name}: these are streams of bytes; decode what you read")
    if options.pop("bufsize", 0) != 0:
        raise ValueError("bufsize: must be 0, the streams have buffers of their own")
    if bool(options.pop("shell", shell)) is not shell:
        raise ValueError(f"shell: must be {shell} here; there is a call for each")


def command_of(
    argv: Sequence[StrOrBytesPath],
    streams: Sequence[Stream],
    *,
    cwd: StrOrBytesPath | None = None,
    env: Mapping[Any, Any] | None = None,
    executable: StrOrBytesPath | None = None,
    pass_fds: Sequence[int] = (),
    close_fds: bool = True,
    start_new_session: bool = False,
    process_group: int | None = None,
    umask: int = -1,
    user: str | int | None = None,
    group: str | int | None = None,
    extra_groups: Iterable[str | int] | None = None,
    detach: bool = False,
    pipesize: int = -1,  # handled where the pipes are opened
    preexec_fn: object = None,
    restore_signals: bool = True,
    startupinfo: object = None,
    creationflags: int = 0,
) -> tuple[CommandConfig, ChildSetup]:
    """Return a command, with streams that become pipes left open, and the settings of its process.

    Args:
        argv: The program and its arguments.
        streams: stdin, stdout, stderr.

    The rest is as for `subprocess.Popen`.

    Raises:
        ValueError: An argument is wrong, or not supported by workers.
    """
    _refuse(preexec_fn is None, "preexec_fn", "a function of this process cannot run in a child of a worker")
    _refuse(restore_signals, "restore_signals", "a worker starts programs with the default action for SIGPIPE")
    _refuse(startupinfo is None and not creationflags, "startupinfo, creationflags", "they are for Windows")
    _refuse(process_group in (None, 0), "process_group", "a program is the leader of its own group")
    program, *args = argv
    command = CommandConfig(
        program,
        args,
        cwd=cwd,
        env=None if env is None else {os.fsdecode(name): os.fsdecode(value) for name, value in env.items()},
        inherit_env=env is None,
        stdin=_leading("stdin", streams[0]),
        stdout=_leading("stdout", streams[1]),
        stderr=Stdio.MERGED if streams[2] == subprocess.STDOUT else _leading("stderr", streams[2]),
        umask=None if umask == -1 else umask,
        user=user,
        group=group,
        detach=detach,
    )
    setup = ChildSetup(
        executable=None if executable is None else validate.text("executable", executable),
        pass_fds=_passed(pass_fds) if close_fds else tuple(sorted({*_inheritable(), *_passed(pass_fds)})),
        extra_groups=None if extra_groups is None else tuple(map(_gid, extra_groups)),
        new_session=start_new_session,
    )
    return command, setup


def _refuse(fine: bool, name: str, why: str) -> None:
    if not fine:
        raise ValueError(f"{name}: {why}")


def _leading(name: str, stream: Stream) -> Stdio | int:
    if stream == subprocess.STDOUT:
        raise ValueError(f"{name}: STDOUT makes sense for stderr only")
    if stream in (subprocess.PIPE, subprocess.DEVNULL):
        return Stdio.NULL  # replaced if it becomes a pipe
    return _where(name, stream)


def _where(name: str, stream: Stream) -> Stdio | int:
    if stream is None:
        return Stdio.INHERIT
    if isinstance(stream, int):
        return stream
    if not hasattr(stream, "fileno"):
        raise ValueError(f"{name}: {stream!r} is not PIPE, DEVNULL, a descriptor or a file")
    return stream.fileno()


def _passed(pass_fds: Sequence[int]) -> tuple[int, ...]:
    for fd in pass_fds:
        if not isinstance(fd, int) or not 0 <= fd <= validate.MOST_DESCRIPTOR:
            raise ValueError(f"pass_fds: {validate.shown(fd)} is no descriptor")
    if len(pass_fds) > MAX_PASSED:
        raise ValueError(f"pass_fds: {len(pass_fds)} descriptors are more than {MAX_PASSED}")
    return tuple(fd for fd in sorted(set(pass_fds)) if fd > 2)


def _inheritable() -> list[int]:
    """Return the descriptors that a child of this process would inherit without `close_fds`."""
    found = []
    for name in os.listdir("/dev/fd"):
        fd = int(name)
        try:
            if fd > 2 and os.get_inheritable(fd):
                found.append(fd)
        except OSError:  # the descriptor of the listing
            continue
    return found


def _gid(group: str | int) -> int:
    if isinstance(group, int):
        return group
    import grp

    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ValueError(f"extra_groups: there is no group {group!r}") from None
