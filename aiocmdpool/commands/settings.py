"""Values that options of a command take: `Stdio`, `OutputPolicy`, `ResourceLimits`. Data only."""

import dataclasses
import enum

from aiocmdpool.commands import validate
from aiocmdpool.commands.errors import ConfigError


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
    address_space: int | None = None
    """Address space in bytes (RLIMIT_AS): what a program reserves, much of which it may never use."""
    open_files: int | None = None
    """Highest descriptor plus one (RLIMIT_NOFILE)."""
    file_size: int | None = None
    """Size in bytes of any file the program writes (RLIMIT_FSIZE)."""

    def __new__(cls, *args: object, **options: object) -> "ResourceLimits":
        # Only to turn a name that is unknown, or was once known, into an error that says which one is meant.
        if "memory" in options:
            # No alias: the name is kept free for a limit on memory that is in use, which address space is not.
            message = "limits.memory: is called address_space, which is what RLIMIT_AS limits"
            raise ConfigError(message, field="limits.memory")
        validate.known_options("ResourceLimits", options, cls.__slots__)
        return object.__new__(cls)

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and (
                type(value) is not int or not 0 <= value < 2**63
            ):  # rlim_t, with a sign in Python
                message = f"limits.{name}: {validate.shown(value)} is not a whole number >= 0 and < 2**63"
                raise ConfigError(message, field=f"limits.{name}")


NO_LIMITS = ResourceLimits()
