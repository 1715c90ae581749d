"""What to run: `CommandConfig`, frozen and validated when it is made.

This room knows data only. It starts nothing, opens nothing and imports no asyncio, so that a command can be
built anywhere, compared, hashed, pickled and sent to another process.
"""

import dataclasses
import os
import pathlib
import shlex
import signal
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast

from aiocmdpool.commands import validate
from aiocmdpool.commands.errors import ConfigError
from aiocmdpool.commands.settings import NO_LIMITS
from aiocmdpool.commands.settings import OutputPolicy as OutputPolicy  # offered here, too
from aiocmdpool.commands.settings import ResourceLimits as ResourceLimits
from aiocmdpool.commands.settings import Stdio as Stdio
from aiocmdpool.commands.signature import DocWithOptions, SignatureOfInit

if TYPE_CHECKING:
    from aiocmdpool.commands.pipeline import Pipeline

StrOrBytesPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

DEFAULT_GRACE = 2.0  # seconds between the stop signal and KILL
DEFAULT_LEFTOVER_GRACE = 0.25  # seconds; enough for git's `gc --auto` to remove its lock
DEFAULT_MAX_OUTPUT = 256 * 1024 * 1024  # bytes per stream; "no limit" must be asked for


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


class _Said:
    """Holds the names of options that were set to what is their default anyway; no field, hence a class of its own."""

    __slots__ = ("_said",)
    _said: frozenset[str]
    """Not set where it would be empty, as it is for most commands."""


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class CommandConfig(_Said):
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
    limits: ResourceLimits = NO_LIMITS
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
        # A mistyped option is an error that says which one was meant, and one that was set to its default is noted.
        self = object.__new__(cls)
        said: list[str] | None = None
        for name, value in options.items():
            if name not in _DEFAULTS:
                validate.known_options("a command", options, _DEFAULTS)
            default = _DEFAULTS[name]
            if value is default or (type(value) is type(default) and value == default):
                said = [name] if said is None else [*said, name]
        if said is not None and len(options) < len(_DEFAULTS):  # else `dataclasses.replace` names each field
            object.__setattr__(self, "_said", frozenset(said))
        return self

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
        changed = dataclasses.replace(self, **changes)
        said = getattr(self, "_said", frozenset()) | changes.keys()
        if said:
            object.__setattr__(changed, "_said", frozenset(said))
        return changed

    def with_defaults(self, options: "CommandOptions") -> "CommandConfig":
        """Return a copy that has these options where this command does not set them itself.

        To set an option to what it is anyway, as in `CommandConfig("sleep", ["9"], timeout=None)`, is to set it. In
        `env` and `metadata`, each entry is an option of its own.

        Args:
            options: Checked before, as `ExecutionConfig.defaults` are.
        """
        said: frozenset[str] = getattr(self, "_said", frozenset())
        fields = {name: getattr(self, name) for name in _DEFAULTS}
        for name, value in options.items():
            if name in _MAPPINGS:
                fields[name] = validate.FrozenMapping({**cast("Mapping[str, Any]", value), **fields[name]})
            elif name not in said and fields[name] == _DEFAULTS[name]:
                fields[name] = value
        return _restore(fields, said | options.keys())

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
        changed = {name: value for name in _DEFAULTS if (value := getattr(self, name)) != _DEFAULTS[name]}
        shown = [repr(self.program), repr(list(self.args))]
        shown += [
            f"{name}={shown_option(name, value)}" for name, value in changed.items() if name not in ("program", "args")
        ]
        return f"CommandConfig({', '.join(shown)})"

    def __hash__(self) -> int:
        return hash((self.program, self.args, self.cwd, self.timeout, frozenset(self.env.items())))

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy cannot be pickled, so travel as the options that differ from the defaults.
        changed = {name: getattr(self, name) for name in _DEFAULTS if getattr(self, name) != _DEFAULTS[name]}
        for name in _MAPPINGS:
            if name in changed:
                changed[name] = validate.FrozenMapping(dict(changed[name]))
        return _restore, (changed, getattr(self, "_said", frozenset()))


def _restore(fields: dict[str, Any], said: frozenset[str] = frozenset()) -> CommandConfig:
    """Make a command of fields that were checked before, and the defaults."""
    command = object.__new__(CommandConfig)
    for name, default in _DEFAULTS.items():
        object.__setattr__(command, name, fields.get(name, default))
    if said:
        object.__setattr__(command, "_said", said)
    return command


def shown_option(name: str, value: Any) -> str:
    """Show an option; values of variables and data on stdin are secrets until proven otherwise."""
    if name == "env":
        return f"<{', '.join(value)}>"
    if name == "stdin" and isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return validate.representation(value)


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

_MAPPINGS = ("env", "metadata")

CommandConfig.__signature__ = SignatureOfInit()  # type: ignore[attr-defined]  # `inspect` looks for it
CommandConfig.__doc__ = DocWithOptions(CommandConfig.__doc__ or "")

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
