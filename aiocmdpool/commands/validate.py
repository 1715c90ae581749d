"""Checks of settings: each takes a field's name and value, and returns the clean value or raises `ConfigError`.

An error names the field, the value and what is allowed. Values that may be secrets are not printed.
"""

import difflib
import enum
import inspect
import math
import os
import signal
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Literal

from aiocmdpool.commands.errors import ConfigError
from aiocmdpool.commands.frozen_mapping import FrozenMapping

ByteBudget = int | None | Literal["auto"]
"""Number of bytes; `None` for no limit, "auto" for what the memory of the system suggests."""


MOST_DESCRIPTOR = 2**31 - 1  # the largest C int
MOST_IDENTITY = 2**32 - 2  # the last uid and gid: the next number is -1, which setreuid(2) takes for "unchanged"


EMPTY: Mapping[str, Any] = FrozenMapping({})


def known_options(owner: str, options: Iterable[str], known: Collection[str]) -> None:
    """Refuse the first of `options` that is not `known` to `owner`, and suggest the one that may have been meant."""
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(known)}"
            raise ConfigError(f"{name}: no such option of {owner}{hint}", field=name)


def text(name: str, value: object) -> str:
    """Return `value` (`str`, `bytes` or a path) as a `str` that can be passed to the kernel, without a NUL."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, bytes):
        value = os.fsdecode(value)
    if not isinstance(value, str):
        raise ConfigError(
            f"{name}: {shown(value)} is {type(value).__name__}, not str, bytes or a path"
            + ("; convert it with str()" if isinstance(value, int | float) else ""),
            field=name,
        )
    if "\0" in value:
        raise ConfigError(f"{name}: {shown(value)} contains a NUL byte, which no argument can carry", field=name)
    try:
        os.fsencode(value)
    except UnicodeEncodeError as error:
        message = f"{name}: {shown(value)} cannot be encoded for the system: {error.reason}"
        raise ConfigError(message, field=name) from None
    return value


def program(name: str, value: object) -> str:
    clean = text(name, value)
    if not clean:
        raise ConfigError(f"{name}: empty; give the name or the path of a program", field=name)
    return clean


def interpreter(name: str, value: object) -> str | None:
    return None if value is None else program(name, value)


def arguments(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str | bytes | os.PathLike):
        raise ConfigError(f"{name}: {shown(value)} is one string; give a list: [{shown(value)}]", field=name)
    if not isinstance(value, Iterable):
        raise ConfigError(f"{name}: {shown(value)} is {type(value).__name__}, not a list of strings", field=name)
    return tuple(text(f"{name}[{index}]", arg) for index, arg in enumerate(value))


def directory(name: str, value: object) -> str | None:
    if value is None:
        return None
    clean = text(name, value)
    if not clean:
        raise ConfigError(f"{name}: empty; use None for the directory of this process", field=name)
    return absolute(name, clean)


def absolute(name: str, path: str) -> str:
    """Return `path` as an absolute, normalized path."""
    try:
        return os.path.abspath(path)
    except OSError as error:
        message = (
            f"{name}: {path!r} is relative, and the working directory of this process is gone or not to be searched "
            f"({error.strerror}); give an absolute path"
        )
        raise ConfigError(message, field=name) from None


def variables(name: str, value: object) -> Mapping[str, str | None]:
    if value is None:
        return EMPTY
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}: {type(value).__name__} is not a mapping of names to values", field=name)
    clean: dict[str, str | None] = {}
    for key, content in value.items():
        variable = text(f"{name} name", key)
        if not variable or "=" in variable:
            raise ConfigError(f"{name}: {shown(variable)} cannot name a variable", field=name)
        try:
            clean[variable] = None if content is None else text(f"{name}[{variable!r}]", content)
        except ConfigError:  # the value may be a secret: do not print it
            raise ConfigError(
                f"{name}[{variable!r}]: not a str without NUL, or None to remove it", field=name
            ) from None
    return FrozenMapping(clean)


def seconds(name: str, value: object) -> float | None:
    required = name in ("grace", "leftover_grace")
    if value is None and not required:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{name}: {shown(value)} is {type(value).__name__}, not seconds as a number", field=name)
    clean = _float(value)
    if not math.isfinite(clean) or clean < 0:
        hint = "; use None for no deadline" if clean == math.inf and not required else ""
        raise ConfigError(f"{name}: {shown(value)} is not a finite number of seconds >= 0{hint}", field=name)
    return clean


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an int too large for a float
        return math.inf if value > 0 else -math.inf


def shown(value: object) -> str:
    """Return `value` as text for a message, cut to about 100 characters."""
    text = representation(value)
    return text if len(text) <= 200 else f"{text[:100]}…"


def representation(value: object) -> str:
    """Return `repr(value)` in full; or a placeholder for an int too long for `repr` (sys.set_int_max_str_digits)."""
    try:
        return repr(value)
    except ValueError:
        return f"a {type(value).__name__} with too many digits to show"


def whole_number(low: int, high: int | None = None, *, optional: bool = False) -> Callable[[str, object], Any]:
    """Return a cleaner that accepts integers from `low` to `high`."""

    def clean(name: str, value: object) -> int | None:
        if value is None and optional:
            return None
        if type(value) is not int or value < low or (high is not None and value > high):
            allowed = f"from {low} to {high}" if high is not None else f">= {low}"
            raise ConfigError(f"{name}: {shown(value)} is not a whole number {allowed}", field=name)
        return value

    return clean


def byte_budget(name: str, value: object) -> ByteBudget:
    """Return `value` if it is a number of bytes, `None` for no limit, or "auto"."""
    if value is None or value == "auto" or (type(value) is int and value >= 0):
        return value
    raise ConfigError(f'{name}: {shown(value)} is no number of bytes >= 0, None for no bound, or "auto"', field=name)


def number(low: float, high: float = math.inf, *, above: bool = False, optional: bool = False) -> Callable[..., Any]:
    """Return a cleaner that accepts finite numbers from `low` (greater than it if `above`) to `high`."""

    def clean(name: str, value: object) -> float | None:
        if value is None and optional:
            return None
        fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(_float(value))
        if not fits or not low <= value <= high or (above and value == low):  # type: ignore[operator]  # a number by now
            allowed = f"{'>' if above else '>='} {low:g}" + (f" and <= {high:g}" if high < math.inf else "")
            raise ConfigError(f"{name}: {shown(value)} is not a finite number {allowed}", field=name)
        return float(value)  # type: ignore[arg-type]  # as above

    return clean


def function(name: str, value: object) -> Any:
    """Return `value` if it is a plain callable, not a coroutine function."""
    if not callable(value) or inspect.iscoroutinefunction(value):
        kind = "a coroutine function, and nobody would await it" if callable(value) else type(value).__name__
        raise ConfigError(f"{name}: {shown(value)} is {kind}; give a plain function", field=name)
    return value


def instance_of(kind: type) -> Callable[[str, object], Any]:
    """Return a cleaner that accepts instances of `kind`."""

    def clean(name: str, value: object) -> object:
        if not isinstance(value, kind):
            extra = f": {', '.join(map(repr, kind))}" if issubclass(kind, enum.Enum) else ""
            raise ConfigError(f"{name}: {shown(value)} is not {kind.__name__}{extra}", field=name)
        return value

    return clean


_STOPPING = frozenset(
    {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT, signal.SIGCHLD, signal.SIGURG}
)  # their default action does not end a process (signal(7))


def stop_signal(name: str, value: object) -> signal.Signals:
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            clean = signal.Signals(value)
        except ValueError:
            raise ConfigError(f"{name}: there is no signal {shown(value)}", field=name) from None
        if clean not in _STOPPING:
            return clean
        raise ConfigError(f"{name}: {clean.name} does not end a program", field=name)
    hint = f"; did you mean signal.{value}?" if isinstance(value, str) and hasattr(signal, value) else ""
    raise ConfigError(f"{name}: {shown(value)} is not a signal{hint}", field=name)


def identity(name: str, value: object) -> str | int | None:
    if value is None:
        return None
    if type(value) is int and 0 <= value <= MOST_IDENTITY:
        return value
    if isinstance(value, str) and value and not _is_number_above(value, MOST_IDENTITY):
        if "\n" in value:  # a newline ends an entry of the user database
            raise ConfigError(f"{name}: {shown(value)} contains a newline, which no name can have", field=name)
        return text(name, value)
    raise ConfigError(f"{name}: {shown(value)} is neither a name nor a number from 0 to {MOST_IDENTITY}", field=name)


def _is_number_above(text: str, most: int) -> bool:
    """Return whether `text` is a decimal number, as `id -u` prints it, greater than `most`."""
    if not (text.isascii() and text.isdigit()):
        return False
    digits = text.lstrip("0") or "0"
    return len(digits) > len(str(most)) or int(digits) > most


def encoding(name: str, value: object) -> str:
    try:
        if isinstance(value, str):
            "".encode(value)
            return value
    except (LookupError, ValueError):  # a name with a NUL, or a codec that refuses everything ("undefined")
        pass
    raise ConfigError(f"{name}: {shown(value)} is no encoding that Python knows", field=name)


def optional_text(name: str, value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ConfigError(f"{name}: {shown(value)} is {type(value).__name__}, not str", field=name)


def metadata(name: str, value: object) -> Mapping[str, Any]:
    if value is None:
        return EMPTY
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}: {type(value).__name__} is not a mapping", field=name)
    return FrozenMapping(dict(value))
