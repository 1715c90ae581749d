"""`Stdio`, `OutputPolicy`, `ResourceLimits`: values of a command's options. Data only."""

import dataclasses
import enum

from aiocmdpool.commands import validate
from aiocmdpool.commands.errors import ConfigError


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
    """What to do with a captured stream that reaches `max_output`."""

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
        # Refuse an unknown or former name of a limit with an error that names the right one.
        if "memory" in options:
            # Not an alias: the name is reserved for a limit on memory in use, which address space is not.
            message = "limits.memory: is called address_space, which is what RLIMIT_AS limits"
            raise ConfigError(message, field="limits.memory")
        validate.known_options("ResourceLimits", options, cls.__slots__)
        return object.__new__(cls)

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and (type(value) is not int or not 0 <= value < 2**63):  # rlim_t is signed in Python
                message = f"limits.{name}: {validate.shown(value)} is not a whole number >= 0 and < 2**63"
                raise ConfigError(message, field=f"limits.{name}")


NO_LIMITS = ResourceLimits()
