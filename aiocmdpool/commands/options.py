"""The options of a command: their types for signatures, the check of each, and its text for people."""

import os
import pathlib
import signal
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

from aiocmdpool.commands import validate
from aiocmdpool.commands.errors import ConfigError
from aiocmdpool.commands.settings import OutputPolicy, ResourceLimits, Stdio

StrOrBytesPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class CommandOptions(TypedDict, total=False):
    """The keyword arguments of `CommandConfig`, for signatures that pass them on."""

    cwd: StrOrBytesPath | None
    env: Mapping[str, str | None] | None
    inherit_env: bool
    stdin: bytes | os.PathLike[str] | Stdio | int
    stdout: str | os.PathLike[str] | Stdio | int
    stderr: str | os.PathLike[str] | Stdio | int
    timeout: float | None
    stop_signal: signal.Signals | int
    grace: float
    leftover_grace: float
    idle_timeout: float | None
    max_output: int | None
    output_policy: OutputPolicy
    check: bool
    niceness: int
    limits: ResourceLimits
    user: str | int | None
    group: str | int | None
    umask: int | None
    no_new_privs: bool
    detach: bool
    encoding: str
    label: str | None
    metadata: Mapping[str, Any] | None
    idempotent: bool


def shown_option(name: str, value: Any) -> str:
    """Return the option `name` as text for `repr`, without environment values and stdin data, which may be secrets."""
    if name == "env":
        return f"<{', '.join(value)}>"
    if name == "stdin" and isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return validate.representation(value)


def _clean_stream(name: str, value: object) -> Any:
    allowed = "Stdio.CAPTURE, NULL, INHERIT, a path or an open descriptor"
    if name == "stdin":
        allowed = "bytes, a pathlib.Path, an open descriptor, Stdio.NULL or INHERIT"
    if isinstance(value, Stdio):
        if (value is Stdio.MERGED and name != "stderr") or (value is Stdio.CAPTURE and name == "stdin"):
            raise ConfigError(f"{name}: {value!r} makes no sense here; use {allowed}", field=name)
        return value
    if name == "stdin":
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        if isinstance(value, str):
            raise ConfigError(
                "stdin: a str could be text or a path; give bytes (text.encode()) or a pathlib.Path",
                field=name,
            )
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= validate.MOST_DESCRIPTOR:
            raise ConfigError(f"{name}: {validate.shown(value)} is no open descriptor; use {allowed}", field=name)
        return value
    if isinstance(value, str | os.PathLike):
        text = validate.text(name, value)
        if not text:
            raise ConfigError(f"{name}: empty path", field=name)
        return pathlib.Path(validate.absolute(name, text))
    raise ConfigError(f"{name}: {type(value).__name__} is not {allowed}", field=name)


CLEANERS: tuple[tuple[str, Callable[[str, Any], Any]], ...] = (
    ("program", validate.program),
    ("args", validate.arguments),
    ("cwd", validate.directory),
    ("env", validate.variables),
    ("inherit_env", validate.instance_of(bool)),
    ("stdin", _clean_stream),
    ("stdout", _clean_stream),
    ("stderr", _clean_stream),
    ("timeout", validate.seconds),
    ("stop_signal", validate.stop_signal),
    ("grace", validate.seconds),
    ("leftover_grace", validate.seconds),
    ("idle_timeout", validate.seconds),
    ("max_output", validate.whole_number(0, optional=True)),
    ("output_policy", validate.instance_of(OutputPolicy)),
    ("check", validate.instance_of(bool)),
    ("niceness", validate.whole_number(-40, 40)),
    ("limits", validate.instance_of(ResourceLimits)),
    ("user", validate.identity),
    ("group", validate.identity),
    ("umask", validate.whole_number(0, 0o777, optional=True)),
    ("no_new_privs", validate.instance_of(bool)),
    ("detach", validate.instance_of(bool)),
    ("encoding", validate.encoding),
    ("label", validate.optional_text),
    ("metadata", validate.metadata),
    ("idempotent", validate.instance_of(bool)),
)
