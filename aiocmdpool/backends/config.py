"""`ExecutionConfig` and `ExecutionMode`: how commands are executed; and the one place that picks a backend."""

import dataclasses
import enum
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self, Unpack

from aiocmdpool.backends.child.process import ProcessBackend
from aiocmdpool.backends.child.thread import ThreadBackend
from aiocmdpool.backends.process_pool import ProcessPoolBackend
from aiocmdpool.backends.workers.process_pool import DEFAULT_HANG_AFTER
from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig, CommandOptions, StrOrBytesPath
from aiocmdpool.commands.errors import ConfigError
from aiocmdpool.commands.executor import CommandExecutor
from aiocmdpool.commands.shared_options import NO_OPTIONS, checked_options
from aiocmdpool.commands.signature import SignatureOfInit
from aiocmdpool.system.cpus import cpu_count


class ExecutionMode(enum.Enum):
    """The process or thread that starts the programs."""

    PROCESS = "process"
    """Start each command as a child of this process. Nothing is resident; each start blocks the loop for about a
    millisecond.
    """
    THREAD = "thread"
    """Start each command as a child of this process from a thread that blocks and watches it: for loops that cannot
    watch children. A start does not block the loop, but the threads share the interpreter with it."""
    PROCESS_POOL = "process_pool"
    """Start commands in resident worker processes: the loop is never blocked by a start."""

    def __repr__(self) -> str:
        return f"ExecutionMode.{self.name}"


class ExecutionBackend(CommandExecutor, Protocol):
    """An executor with a lifecycle: entering starts what it needs, leaving ends everything that it started."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    async def aclose(self) -> None:
        """End all running commands and wait for their ends. Harmless when repeated."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionConfig:
    """The way in which commands are executed, and how many run at once.

    Raises:
        ConfigError: A field is wrong; the message names the field, the value and what is allowed.
    """

    mode: ExecutionMode = ExecutionMode.PROCESS_POOL
    """Execution mode, which selects the backend."""
    workers: int | None = None
    """Number of resident workers of PROCESS_POOL. `None`: the number of CPUs this process may use."""
    concurrency_limit: int | None = None
    """Number of commands that run at once. `None`: the number of CPUs this process may use."""

    niceness: int = 0
    """Number to add to the niceness of this process, for the workers and their commands. With 10, they do not delay a
    loop that shares its core with them. For PROCESS_POOL only: in other modes each command has its own."""
    recycle_after: int | None = None
    """Number of commands after which a worker of PROCESS_POOL is replaced. `None`: never."""
    max_worker_memory: int | None = None
    """Resident bytes above which a worker of PROCESS_POOL is replaced, checked now and then. `None`: never."""
    hang_after: float = DEFAULT_HANG_AFTER
    """Seconds without a sign of life after which a worker of PROCESS_POOL that has work counts as hung."""

    max_output_total: validate.ByteBudget = "auto"
    """Bytes of captured output that are held at once for all commands, apart from 64 KiB a stream. When they are used
    up, commands that capture wait before they start, and one that writes more ends by its `output_policy`. `None`: no
    limit. "auto": half of the memory that is free, in the system or its control group, when the first are started."""

    python: StrOrBytesPath | None = None
    """Path of the Python that runs workers, and that prepares commands with settings in the other modes. `None`: the
    environment variable AIOCMDPOOL_PYTHON; without it `sys.executable`, if that is a Python."""

    defaults: CommandOptions = dataclasses.field(default_factory=lambda: NO_OPTIONS, hash=False)
    """Options of `CommandConfig` for every command of a pool that does not set them itself. In `env` and `metadata`
    each entry counts as an option of its own. Pools apply them; without a pool, `complete` does."""

    def __new__(cls, *args: object, **options: object) -> Self:
        # Refuse a mistyped option, with a hint which one was meant.
        if cls.__init__ is ExecutionConfig.__init__:  # a subclass may take other options
            validate.known_options("ExecutionConfig", options, ExecutionConfig.__slots__)
        return object.__new__(cls)

    def __post_init__(self) -> None:
        validate.instance_of(ExecutionMode)("mode", self.mode)
        for name, (check, default) in _OF_WORKERS.items():
            value = check(name, getattr(self, name))
            if value != default and self.mode is not ExecutionMode.PROCESS_POOL:
                raise ConfigError(f"{name}: {self.mode!r} has no workers; use ExecutionMode.PROCESS_POOL", field=name)
        validate.whole_number(1, optional=True)("concurrency_limit", self.concurrency_limit)
        validate.byte_budget("max_output_total", self.max_output_total)
        validate.interpreter("python", self.python)
        object.__setattr__(self, "defaults", checked_options("defaults", self.defaults))

    @property
    def concurrency(self) -> int:
        """Return `concurrency_limit`; the number of CPUs if it is `None`."""
        return self.concurrency_limit or cpu_count()

    def complete(self, command: CommandConfig) -> CommandConfig:
        """Return `command` with the `defaults` that it does not set itself, as a pool would run it."""
        return command.with_defaults(self.defaults) if self.defaults else command

    # -- the builder ------------------------------------------------------------------------------------------------

    def with_options(self, **changes: Any) -> Self:
        """Return a copy with the fields in `changes` replaced; the copy is validated like a new configuration."""
        validate.known_options("ExecutionConfig", changes, self.__slots__)
        return dataclasses.replace(self, **changes)

    def with_mode(self, mode: ExecutionMode) -> Self:
        """Return a copy that starts programs in `mode`."""
        return self.with_options(mode=mode)

    def with_workers(self, workers: int | None) -> Self:
        """Return a copy with `workers` resident workers; `None` for the number of CPUs."""
        return self.with_options(workers=workers)

    def with_concurrency_limit(self, concurrency_limit: int | None) -> Self:
        """Return a copy that runs up to `concurrency_limit` commands at once; `None` for the number of CPUs."""
        return self.with_options(concurrency_limit=concurrency_limit)

    def with_niceness(self, niceness: int) -> Self:
        """Return a copy that adds `niceness` to the niceness of this process for its workers."""
        return self.with_options(niceness=niceness)

    def with_recycle_after(self, recycle_after: int | None) -> Self:
        """Return a copy that replaces a worker after `recycle_after` commands; `None` for never."""
        return self.with_options(recycle_after=recycle_after)

    def with_max_worker_memory(self, max_worker_memory: int | None) -> Self:
        """Return a copy that replaces a worker with more than `max_worker_memory` resident bytes; `None` for never."""
        return self.with_options(max_worker_memory=max_worker_memory)

    def with_hang_after(self, hang_after: float) -> Self:
        """Return a copy that regards a worker as hung after `hang_after` seconds without a sign of life."""
        return self.with_options(hang_after=hang_after)

    def with_max_output_total(self, max_output_total: validate.ByteBudget) -> Self:
        """Return a copy that holds up to `max_output_total` bytes of captured output at once; `None` for no limit."""
        return self.with_options(max_output_total=max_output_total)

    def with_python(self, python: StrOrBytesPath | None) -> Self:
        """Return a copy whose workers run on the Python at the path `python`; `None` for the default."""
        return self.with_options(python=python)

    def with_defaults(self, **options: Unpack[CommandOptions]) -> Self:
        """Return a copy that adds `options` to the defaults of every command."""
        return self.with_options(defaults={**self.defaults, **options})


ExecutionConfig.__signature__ = SignatureOfInit()  # type: ignore[attr-defined]  # `inspect` looks for it

_OF_WORKERS: dict[str, tuple[Callable[[str, object], Any], object]] = {
    "workers": (validate.whole_number(1, optional=True), None),
    "niceness": (validate.whole_number(-40, 40), 0),
    "recycle_after": (validate.whole_number(1, optional=True), None),
    "max_worker_memory": (validate.whole_number(1, optional=True), None),
    "hang_after": (validate.number(0, above=True), DEFAULT_HANG_AFTER),
}
"""Options that only `PROCESS_POOL` uses, each with its check and its default."""


def create_backend(config: ExecutionConfig) -> ExecutionBackend:
    """Return a new backend for `config`, not yet entered.

    Raises:
        ConfigError: `config` is no `ExecutionConfig`.
    """
    validate.instance_of(ExecutionConfig)("config", config)
    total, python = config.max_output_total, config.python
    match config.mode:
        case ExecutionMode.PROCESS:
            return ProcessBackend(max_output_total=total, python=python)
        case ExecutionMode.THREAD:
            return ThreadBackend(config.concurrency, max_output_total=total, python=python)
        case ExecutionMode.PROCESS_POOL:
            return ProcessPoolBackend(
                config.workers,
                niceness=config.niceness,
                recycle_after=config.recycle_after,
                max_worker_memory=config.max_worker_memory,
                hang_after=config.hang_after,
                max_output_total=total,
                python=python,
            )
