"""`CommandConfig`: the description of one command, frozen, and validated when it is made.

This room knows data only. It starts nothing, opens nothing and imports no asyncio, so that a command can be
built anywhere, compared, hashed, pickled and sent to another process.
"""

import dataclasses
import os
import pathlib
import shlex
import signal
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Unpack, cast

from aiocmdpool.commands import validate
from aiocmdpool.commands.frozen_mapping import FrozenMapping
from aiocmdpool.commands.options import CLEANERS, shown_option
from aiocmdpool.commands.options import CommandOptions as CommandOptions  # offered here, too
from aiocmdpool.commands.options import StrOrBytesPath as StrOrBytesPath
from aiocmdpool.commands.settings import NO_LIMITS
from aiocmdpool.commands.settings import OutputPolicy as OutputPolicy
from aiocmdpool.commands.settings import ResourceLimits as ResourceLimits
from aiocmdpool.commands.settings import Stdio as Stdio
from aiocmdpool.commands.signature import DocWithOptions, SignatureOfInit

if TYPE_CHECKING:
    from aiocmdpool.commands.pipeline import Pipeline

DEFAULT_GRACE = 2.0  # seconds between the stop signal and KILL
DEFAULT_LEFTOVER_GRACE = 0.25  # seconds; enough for git's `gc --auto` to remove its lock
DEFAULT_MAX_OUTPUT = 256 * 1024 * 1024  # bytes per stream; "no limit" must be asked for


class _Said:
    """Base class with the names of the options that were set to their default value explicitly; not a field."""

    __slots__ = ("_said",)
    _said: frozenset[str]
    """Names of these options; the attribute is not set at all where there are none, as for most commands."""


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
    """Name to look up in the command's own PATH, or a path (one with a slash is relative to `cwd`)."""
    args: tuple[str, ...] = ()
    """Arguments after the program. `bytes` and `PathLike` are accepted and kept as `os.fsdecode` gives them."""
    _: dataclasses.KW_ONLY
    cwd: str | None = None
    """Working directory; a relative path is made absolute at once. `None`: the working directory of this process."""
    env: Mapping[str, str | None] = dataclasses.field(default_factory=lambda: validate.EMPTY)
    """Variables to set, or to remove where the value is `None`, on top of the inherited environment."""
    inherit_env: bool = True
    """Whether to start from the environment of this process; `False` starts from an empty one."""
    stdin: bytes | pathlib.Path | Stdio | int = Stdio.NULL
    """Source of standard input: `bytes`, a `pathlib.Path` to read, an open descriptor, `Stdio.NULL` or
    `Stdio.INHERIT`."""
    stdout: pathlib.Path | Stdio | int = Stdio.CAPTURE
    """Standard output: `Stdio.CAPTURE`, `NULL`, `INHERIT`, a path that is created or truncated, or an open
    descriptor.
    """
    stderr: pathlib.Path | Stdio | int = Stdio.CAPTURE
    """Standard error: the same choices as for `stdout`, and `Stdio.MERGED`, which sends it where stdout goes."""
    timeout: float | None = None
    """Seconds the program may run, counted from its start. `None`: no deadline."""
    stop_signal: signal.Signals = signal.SIGTERM
    """Signal that asks the program, and all of its process group, to end."""
    grace: float = DEFAULT_GRACE
    """Seconds between `stop_signal` and SIGKILL, for the whole process group."""
    leftover_grace: float = DEFAULT_LEFTOVER_GRACE
    """Seconds between `stop_signal` and SIGKILL for processes that are left when the program exits by itself."""
    idle_timeout: float | None = None
    """Seconds the program may go without writing to a captured stream. `None`: no limit on silence."""
    max_output: int | None = DEFAULT_MAX_OUTPUT
    """Bytes to keep of each captured stream; applied while reading. `None`: no limit."""
    output_policy: OutputPolicy = OutputPolicy.FAIL
    """Treatment of a captured stream that reaches `max_output`: end the command, or keep a part of the output."""
    check: bool = False
    """Whether to raise `NonZeroExit` unless the program exits with status 0."""
    niceness: int = 0
    """Number from -40 to 40 to add to the niceness of the starting process; below 0 takes a privilege."""
    limits: ResourceLimits = NO_LIMITS
    """Resource limits (`setrlimit(2)`) to apply before the program runs."""
    user: str | int | None = None
    """User (name or uid) to run as; takes a privilege. Its group and supplementary groups come along."""
    group: str | int | None = None
    """Group (name or gid) to run as; takes a privilege."""
    umask: int | None = None
    """File mode creation mask, 0 to 0o777."""
    no_new_privs: bool = False
    """Whether set-user-ID bits and file capabilities have no effect in the program (PR_SET_NO_NEW_PRIVS; Linux)."""
    detach: bool = False
    """Whether processes that the program leaves running after its own exit, such as a daemon, are left alone. A command
    that is ended for another reason is always ended with all of its processes.
    """
    encoding: str = "utf-8"
    """Encoding that `CommandResult.text()` decodes with; the result itself is always bytes."""
    label: str | None = None
    """Name for people, shown in messages instead of the command line."""
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=lambda: validate.EMPTY, compare=False)
    """Anything that the caller wants to find again in the result; neither looked at nor compared."""
    idempotent: bool = False
    """Whether the command may safely be run a second time when the worker that ran it was lost."""

    if TYPE_CHECKING:
        # Callers may pass more types than are kept: `CLEANERS` convert them.
        def __init__(
            self, program: StrOrBytesPath, args: Iterable[StrOrBytesPath] = (), **options: Unpack[CommandOptions]
        ) -> None: ...

    def __new__(cls, *args: object, **options: object) -> "CommandConfig":
        # Refuse a mistyped option, with a hint which one was meant, and note the options that are set to their default.
        self = object.__new__(cls)
        said: list[str] | None = None
        for name, value in options.items():
            if name not in _DEFAULTS:
                validate.known_options("a command", options, _DEFAULTS)
            default = _DEFAULTS[name]
            if value is default or (type(value) is type(default) and value == default):
                said = [name] if said is None else [*said, name]
        if said is not None and len(options) < len(_DEFAULTS):  # `dataclasses.replace` passes every field
            object.__setattr__(self, "_said", frozenset(said))
        return self

    def __post_init__(self) -> None:
        for name, clean in CLEANERS:
            value = getattr(self, name)
            if value is not _DEFAULTS[name]:
                object.__setattr__(self, name, clean(name, value))

    @classmethod
    def shell(
        cls, script: str, args: Iterable[StrOrBytesPath] = (), **options: Unpack[CommandOptions]
    ) -> "CommandConfig":
        """Return a command that runs `script` with `/bin/sh -c`; `args` become its `$1`, `$2`, … and need no quoting.

        Example:
            >>> CommandConfig.shell('sort "$1" | uniq -c', ["names.txt"]).program
            '/bin/sh'
        """
        script = validate.text("script", script)
        rest = validate.arguments("args", args)
        return cls("/bin/sh", ("-c", script, "sh", *rest) if rest else ("-c", script), **options)

    def with_options(self, **changes: Any) -> "CommandConfig":
        """Return a copy with the fields in `changes` replaced; the copy is validated like a new command."""
        validate.known_options("a command", changes, _DEFAULTS)
        changed = dataclasses.replace(self, **changes)
        said = getattr(self, "_said", frozenset()) | changes.keys()
        if said:
            object.__setattr__(changed, "_said", frozenset(said))
        return changed

    def with_defaults(self, options: "CommandOptions") -> "CommandConfig":
        """Return a copy that takes each option of `options` that this command does not set itself.

        Setting an option to its default value explicitly, as in `CommandConfig("sleep", ["9"], timeout=None)`, counts
        as setting it. In `env` and `metadata`, each entry counts as an option of its own.

        Args:
            options: Options that have been checked before, as `ExecutionConfig.defaults` are.
        """
        said: frozenset[str] = getattr(self, "_said", frozenset())
        fields = {name: getattr(self, name) for name in _DEFAULTS}
        for name, value in options.items():
            if name in _MAPPINGS:
                fields[name] = FrozenMapping({**cast("Mapping[str, Any]", value), **fields[name]})
            elif name not in said and fields[name] == _DEFAULTS[name]:
                fields[name] = value
        return _restore(fields, said | options.keys())

    def with_args(self, *args: StrOrBytesPath) -> "CommandConfig":
        """Return a copy with `args` as its arguments, in place of the present ones."""
        return self.with_options(args=args)

    def with_env(self, **variables: str | None) -> "CommandConfig":
        """Return a copy that also sets `variables` in its environment (or removes those that are `None`)."""
        return self.with_options(env={**self.env, **variables})

    def with_timeout(self, timeout: float | None) -> "CommandConfig":
        """Return a copy that may run for `timeout` seconds; `None` for no deadline."""
        return self.with_options(timeout=timeout)

    def with_cwd(self, cwd: StrOrBytesPath | None) -> "CommandConfig":
        """Return a copy that runs in the directory `cwd`; `None` for the working directory of this process."""
        return self.with_options(cwd=cwd)

    def with_stdin(self, stdin: bytes | os.PathLike[str] | Stdio | int) -> "CommandConfig":
        """Return a copy that reads its standard input from `stdin`."""
        return self.with_options(stdin=stdin)

    def __or__(self, other: "CommandConfig") -> "Pipeline":
        """Return a pipeline that feeds the stdout of this command to the stdin of `other`."""
        from aiocmdpool.commands.pipeline import Pipeline  # imported late: pipelines are made of commands

        if not isinstance(other, CommandConfig):
            return NotImplemented  # `Pipeline.__ror__` handles a pipeline
        return Pipeline((self, other))

    @property
    def argv(self) -> list[str]:
        """Return the program and its arguments as one list."""
        return [self.program, *self.args]

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return the complete environment of the program, where `base` is the one that it would inherit."""
        merged: dict[str, str | None] = {**(base if self.inherit_env else {}), **self.env}
        return {name: value for name, value in merged.items() if value is not None}

    @property
    def needs_preparing(self) -> bool:
        """Return whether the child process needs settings before it can exec: identity, limits, niceness, umask, …."""
        return bool(
            self.niceness
            or self.limits is not _DEFAULTS["limits"]
            or self.umask is not None
            or self.no_new_privs
            or self.user is not None
            or self.group is not None
        )

    def display(self, limit: int = 120) -> str:
        """Return the label, or the command line quoted for people, cut to `limit` characters."""
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
        # Pickle only the options that differ from the defaults; `env` and `metadata` travel as plain mappings.
        changed = {name: getattr(self, name) for name in _DEFAULTS if getattr(self, name) != _DEFAULTS[name]}
        for name in _MAPPINGS:
            if name in changed:
                changed[name] = dict(changed[name])
        return CommandConfig._unpickle, (changed, getattr(self, "_said", frozenset()))

    @classmethod
    def _unpickle(cls, fields: dict[str, Any], said: frozenset[str]) -> "CommandConfig":
        """Make a command from a pickle, which names this class and nothing else of the package."""
        for name in _MAPPINGS:
            if name in fields:
                fields[name] = FrozenMapping(fields[name])
        return _restore(fields, said)


def _restore(fields: dict[str, Any], said: frozenset[str] = frozenset()) -> CommandConfig:
    """Make a command from `fields` that have been checked before; fields that are missing get their defaults."""
    command = object.__new__(CommandConfig)
    for name, default in _DEFAULTS.items():
        object.__setattr__(command, name, fields.get(name, default))
    if said:
        object.__setattr__(command, "_said", said)
    return command


_DEFAULTS: dict[str, Any] = {
    field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    for field in dataclasses.fields(CommandConfig)
}

_MAPPINGS = ("env", "metadata")

CommandConfig.__signature__ = SignatureOfInit()  # type: ignore[attr-defined]  # `inspect` looks for it
CommandConfig.__doc__ = DocWithOptions(CommandConfig.__doc__ or "")
