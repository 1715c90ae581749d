"""`Stdio`, `OutputPolicy`, `ResourceLimits`: values of a command's options. Data only."""

import dataclasses
import enum
import functools
import warnings
from collections.abc import Callable

from aiocmdpool.commands import validate
from aiocmdpool.commands.errors import ConfigError

FORMER_NAME = "memory"
"""Former name of `ResourceLimits.address_space`; still accepted, with a warning."""


class Stdio(enum.Enum):
    """Target of a standard stream that is neither data nor a file."""

    CAPTURE = "capture"
    """Capture the stream (stdout or stderr) into the result."""
    NULL = "null"
    """Connect the stream to the null device, `/dev/null`."""
    INHERIT = "inherit"
    """Share the stream of this process."""
    MERGED = "merged"
    """Send stderr to the same place as stdout, in the order of the writes; for stderr only."""

    __hash__ = object.__hash__  # members are singletons; `Enum.__hash__` hashes their name, in Python code

    def __repr__(self) -> str:
        return f"Stdio.{self.name}"


class OutputPolicy(enum.Enum):
    """The treatment of a captured stream that reaches `max_output`."""

    FAIL = "fail"
    """End the command and raise `OutputLimitExceeded`; the error's result holds the head."""
    KEEP_HEAD = "keep_head"
    """Keep the first `max_output` bytes, read on and drop the rest."""
    KEEP_TAIL = "keep_tail"
    """Keep the last `max_output` bytes and drop what came before."""

    __hash__ = object.__hash__  # see `Stdio`

    def __repr__(self) -> str:
        return f"OutputPolicy.{self.name}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ResourceLimits:
    """Limits that the kernel enforces on the program (`setrlimit(2)`), soft and hard alike. `None` changes nothing."""

    cpu_seconds: int | None = None
    """CPU time in seconds; past it the kernel sends SIGXCPU, then SIGKILL (RLIMIT_CPU)."""
    address_space: int | None = None
    """Address space in bytes (RLIMIT_AS): what a program reserves, much of which it may never use."""
    open_files: int | None = None
    """Highest descriptor plus one (RLIMIT_NOFILE)."""
    file_size: int | None = None
    """Size in bytes of any file the program writes (RLIMIT_FSIZE)."""

    def __new__(cls, *args: object, **options: object) -> "ResourceLimits":
        # Refuse a name that is none of a limit with an error that suggests the right one.
        validate.known_options("ResourceLimits", options, (*cls.__slots__, FORMER_NAME))
        return object.__new__(cls)

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and (type(value) is not int or not 0 <= value < 2**63):  # rlim_t is signed in Python
                message = f"limits.{name}: {validate.shown(value)} is not a whole number >= 0 and < 2**63"
                raise ConfigError(message, field=f"limits.{name}")


def _taking_the_former_name(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def __init__(self: ResourceLimits, **limits: int | None) -> None:
        if FORMER_NAME in limits:
            if "address_space" in limits:
                message = "limits.memory: is the former name of address_space, which is given as well"
                raise ConfigError(message, field="limits.memory")
            message = "ResourceLimits(memory=…) is called address_space; memory will mean the memory in use"
            warnings.warn(message, FutureWarning, stacklevel=2)
            limits["address_space"] = limits.pop(FORMER_NAME)
        init(self, **limits)

    return __init__


setattr(ResourceLimits, "__init__", _taking_the_former_name(ResourceLimits.__init__))  # noqa: B010

NO_LIMITS = ResourceLimits()
