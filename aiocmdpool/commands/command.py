"""What to run: `CommandConfig`, frozen and validated when it is made.

This room knows data only. It starts nothing, opens nothing and imports no asyncio, so that a command can be
built anywhere, compared, hashed, pickled and sent to another process.
"""

import dataclasses
import enum
import os
import pathlib
import shlex
import signal
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from aiocmdpool.commands import validate
from aiocmdpool.commands.errors import ConfigError

if TYPE_CHECKING:
    from aiocmdpool.commands.pipeline import Pipeline

StrOrBytesPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

DEFAULT_GRACE = 2.0  # seconds between the stop signal and KILL
DEFAULT_LEFTOVER_GRACE = 0.25  # seconds; enough for git's `gc --auto` to remove its lock
DEFAULT_MAX_OUTPUT = 256 * 1024 * 1024  # bytes per stream; "no limit" must be asked for


class Stdio(enum.Enum):
    """Where a standard stream of a command leads, when it is neither data nor a file."""

    CAPTURE = "capture"
    """Into the result (stdout and stderr)."""
    NULL = "null"
    """The null device."""
    INHERIT = "inherit"
    """The stream of this process."""
    MERGED = "merged"
    """stderr only: the same place as stdout, in the order of the writes."""

    __hash__ = object.__hash__  # members are single objects; that of `Enum` hashes their name, in Python

    def __repr__(self) -> str:
        return f"Stdio.{self.name}"


class OutputPolicy(enum.Enum):
    """What happens to a captured stream that reaches `max_output`."""

    FAIL = "fail"
    """End the command and raise `OutputLimitExceeded`; the error's result holds the head."""
    KEEP_HEAD = "keep_head"
    """Keep the first `max_output` bytes, read on and drop the rest."""
    KEEP_TAIL = "keep_tail"
    """Keep the last `max_output` bytes."""

    __hash__ = object.__hash__  # as that of `Stdio`

    def __repr__(self) -> str:
        return f"OutputPolicy.{self.name}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ResourceLimits:
    """Limits the kernel holds the program to (`setrlimit(2)`), soft and hard alike. `None` leaves a limit alone."""

    cpu_seconds: int | None = None
    """CPU time in seconds; past it the kernel sends SIGXCPU, then SIGKILL (RLIMIT_CPU)."""
    memory: int | None = None
    """Address space in bytes (RLIMIT_AS)."""
    open_files: int | None = None
    """Highest descriptor plus one (RLIMIT_NOFILE)."""
    file_size: int | None = None
    """Size in bytes of any file the program writes (RLIMIT_FSIZE)."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and (
                type(value) is not int or not 0 <= value < 2**63
            ):  # rlim_t, with a sign in Python
                message = f"limits.{name}: {validate.shown(value)} is not a whole number >= 0 and < 2**63"
                raise ConfigError(message, field=f"limits.{name}")


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


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class CommandConfig:
    """One command: a program, its arguments, and the conditions under which it runs.

    Frozen, hashable and picklable. Every field is validated here, once, with a `ConfigError` that names the
    field; whoever receives a `CommandConfig` can trust it. No shell is involved unless `CommandConfig.shell` asks
    for one.

    Example:
        >>> command = CommandConfig("git", ["log", "-1"], cwd="/srv/repo", timeout=5, check=True)
        >>> command.with_options(timeout=10).timeout
        10.0

    Raises:
        ConfigError: A field is wrong; the message names the field, the value and what is allowed.
    """

    program: str
    """Name looked up in the command's own PATH, or a path (one with a slash is relative to `cwd`)."""
    args: tuple[str, ...] = ()
    """Arguments after the program. `bytes` and `PathLike` are accepted and kept as `os.fsdecode` gives them."""
    _: dataclasses.KW_ONLY
    cwd: str | None = None
    """Working directory; a relative one is made absolute now. `None`: that of this process."""
    env: Mapping[str, str | None] = dataclasses.field(default_factory=lambda: validate.EMPTY)
    """Variables to set, or to remove where the value is `None`."""
    inherit_env: bool = True
    """Start from this process's environment; `False` starts from an empty one."""
    stdin: bytes | pathlib.Path | Stdio | int = Stdio.NULL
    """`bytes` to feed, a `pathlib.Path` to read, an open descriptor, `Stdio.NULL` or `Stdio.INHERIT`."""
    stdout: pathlib.Path | Stdio | int = Stdio.CAPTURE
    """`Stdio.CAPTURE`, `NULL`, `INHERIT`, a path that is created or truncated, or an open descriptor."""
    stderr: pathlib.Path | Stdio | int = Stdio.CAPTURE
    """As `stdout`, and `Stdio.MERGED`."""
    timeout: float | None = None
    """Seconds the program may run, counted from its start. `None`: no deadline."""
    stop_signal: signal.Signals = signal.SIGTERM
    """What asks the program, and all of its process group, to end."""
    grace: float = DEFAULT_GRACE
    """Seconds between that and KILL, for the whole of the group."""
    leftover_grace: float = DEFAULT_LEFTOVER_GRACE
    """Seconds between `stop_signal` and KILL for what the program leaves running when it exits by itself."""
    idle_timeout: float | None = None
    """Seconds the program may go without writing to a captured stream. `None`: no such deadline."""
    max_output: int | None = DEFAULT_MAX_OUTPUT
    """Bytes kept of each captured stream; applied while reading. `None`: no limit."""
    output_policy: OutputPolicy = OutputPolicy.FAIL
    """What happens at `max_output`."""
    check: bool = False
    """Raise `NonZeroExit` unless the program exits with 0."""
    niceness: int = 0
    """Added to the niceness of whoever starts the program, -40 to 40; below 0 takes a privilege."""
    limits: ResourceLimits = ResourceLimits()
    """Resource limits applied before the program runs."""
    user: str | int | None = None
    """User (name or uid) to run as; takes a privilege. Its group and supplementary groups come along."""
    group: str | int | None = None
    """Group (name or gid) to run as; takes a privilege."""
    umask: int | None = None
    """File mode creation mask, 0 to 0o777."""
    no_new_privs: bool = False
    """Whether set-user-ID programs and file capabilities are powerless in it (PR_SET_NO_NEW_PRIVS; Linux)."""
    detach: bool = False
    """Whether what it leaves running after its own exit, such as a daemon, is left alone. Ended for a reason, it is
    ended with all of it."""
    encoding: str = "utf-8"
    """Used by `CommandResult.text()`; the result itself is always bytes."""
    label: str | None = None
    """A name for people: shown in messages instead of the command line."""
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=lambda: validate.EMPTY, compare=False)
    """Whatever the caller wants to find again in the result; not looked at, not compared."""
    idempotent: bool = False
    """Whether it does no harm to run it again when the worker that ran it was lost."""

    if TYPE_CHECKING:
        # What callers may pass is wider than what is kept: the cleaners below narrow it.
        def __init__(
            self, program: StrOrBytesPath, args: Iterable[StrOrBytesPath] = (), **options: Unpack[CommandOptions]
        ) -> None: ...

    def __new__(cls, *args: object, **options: object) -> "CommandConfig":
        # Only to turn a mistyped option into an error that says which one was meant.
        validate.known_options("a command", options, _DEFAULTS)
        return object.__new__(cls)

    def __post_init__(self) -> None:
        for name, clean in _CLEANERS:
            value = getattr(self, name)
            if value is not _DEFAULTS[name]:
                object.__setattr__(self, name, clean(name, value))

    @classmethod
    def shell(
        cls, script: str, args: Iterable[StrOrBytesPath] = (), **options: Unpack[CommandOptions]
    ) -> "CommandConfig":
        """Run a script with `/bin/sh -c`; `args` are its `$1`, `$2`, … and need no quoting.

        Example:
            >>> CommandConfig.shell('sort "$1" | uniq -c', ["names.txt"]).program
            '/bin/sh'
        """
        script = validate.text("script", script)
        rest = validate.arguments("args", args)
        return cls("/bin/sh", ("-c", script, "sh", *rest) if rest else ("-c", script), **options)

    def with_options(self, **changes: Any) -> "CommandConfig":
        """A copy with these fields changed; validated like a new one."""
        validate.known_options("a command", changes, _DEFAULTS)
        return dataclasses.replace(self, **changes)

    def with_args(self, *args: StrOrBytesPath) -> "CommandConfig":
        """A copy with these arguments instead."""
        return self.with_options(args=args)

    def with_env(self, **variables: str | None) -> "CommandConfig":
        """A copy with these variables set (or removed, where `None`) on top of those already there."""
        return self.with_options(env={**self.env, **variables})

    def with_timeout(self, timeout: float | None) -> "CommandConfig":
        """A copy with this run deadline in seconds."""
        return self.with_options(timeout=timeout)

    def with_cwd(self, cwd: StrOrBytesPath | None) -> "CommandConfig":
        """A copy with this working directory."""
        return self.with_options(cwd=cwd)

    def with_stdin(self, stdin: "bytes | os.PathLike[str] | Stdio | int") -> "CommandConfig":
        """A copy fed from elsewhere."""
        return self.with_options(stdin=stdin)

    def __or__(self, other: "CommandConfig") -> "Pipeline":
        """A pipeline: the stdout of this one is the stdin of the other."""
        from aiocmdpool.commands.pipeline import Pipeline  # it is made of commands

        if not isinstance(other, CommandConfig):
            return NotImplemented  # a pipeline takes it from there
        return Pipeline((self, other))

    @property
    def argv(self) -> list[str]:
        """The program and its arguments."""
        return [self.program, *self.args]

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """The whole environment of the program, given the one that it would inherit."""
        merged: dict[str, str | None] = {**(base if self.inherit_env else {}), **self.env}
        return {name: value for name, value in merged.items() if value is not None}

    @property
    def needs_preparing(self) -> bool:
        """Whether the new process has to be changed before the program runs: identity, limits and the like."""
        return bool(
            self.niceness
            or self.limits is not _DEFAULTS["limits"]
            or self.umask is not None
            or self.no_new_privs
            or self.user is not None
            or self.group is not None
        )

    def display(self, limit: int = 120) -> str:
        """The label, or the command line quoted for people and cut to `limit` characters."""
        text = self.label or shlex.join(self.argv).encode("utf-8", "backslashreplace").decode()
        return text if len(text) <= limit else text[: limit - 1] + "…"

    def __repr__(self) -> str:
        shown = [repr(self.program), repr(list(self.args))]
        for name in _DEFAULTS:
            value = getattr(self, name)
            if name in ("program", "args") or value == _DEFAULTS[name]:
                continue
            # Values of variables and data on stdin are secrets until proven otherwise.
            if name == "env":
                value = f"<{', '.join(value)}>"
            elif name == "stdin" and isinstance(value, bytes):
                value = f"<{len(value)} bytes>"
            else:
                value = validate.representation(value)
            shown.append(f"{name}={value}")
        return f"CommandConfig({', '.join(shown)})"

    def __hash__(self) -> int:
        return hash((self.program, self.args, self.cwd, self.timeout, frozenset(self.env.items())))

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy cannot be pickled, so travel as the options that differ from the defaults.
        changed = {name: getattr(self, name) for name in _DEFAULTS if getattr(self, name) != _DEFAULTS[name]}
        for name in ("env", "metadata"):
            if name in changed:
                changed[name] = dict(changed[name])
        return _restore, (changed,)


def _restore(fields: dict[str, Any]) -> CommandConfig:
    command = object.__new__(CommandConfig)
    for name, default in _DEFAULTS.items():
        value = fields.get(name, default)
        if name in ("env", "metadata") and name in fields:
            value = validate.FrozenMapping(value)
        object.__setattr__(command, name, value)
    return command


def _clean_stream(name: str, value: object) -> Any:
    allowed = "Stdio.CAPTURE, NULL, INHERIT, a path or an open descriptor"
    if isinstance(value, Stdio):
        if (value is Stdio.MERGED and name != "stderr") or (value is Stdio.CAPTURE and name == "stdin"):
            raise ConfigError(f"{name}: {value!r} makes no sense here", field=name)
        return value
    if name == "stdin":
        allowed = "bytes, a pathlib.Path, an open descriptor, Stdio.NULL or INHERIT"
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


_DEFAULTS: dict[str, Any] = {
    field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    for field in dataclasses.fields(CommandConfig)
}

_CLEANERS: tuple[tuple[str, Callable[[str, Any], Any]], ...] = (
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
