"""Who takes part: what each one is called and in which measurements it appears. How it runs is in `runner/`."""

import dataclasses
import enum

FLOOR = "floor"
FLOORS = "floors"


class Kind(enum.Enum):
    """How a contender runs a command."""

    EXTERNAL = "a program of its own"
    PROCESS_POOL = "ProcessPool"
    COMMAND_POOL = "CommandPool"
    PROCESS_BACKEND = "ProcessBackend"
    SEMAPHORE = "asyncio.Semaphore and communicate()"
    ANYIO = "anyio.run_process and a CapacityLimiter"
    THREADS = "subprocess.run in a ThreadPoolExecutor"


@dataclasses.dataclass(frozen=True, slots=True)
class Contender:
    """One way to run commands."""

    name: str
    label: str
    kind: Kind
    loop: str = ""
    """`asyncio` or `uvloop`; empty for an external program."""
    niceness: int = 0
    """Of the workers."""
    in_grid: bool = False
    """Measured with every workload at every number in flight, not in the main comparison alone."""
    with_heap: bool = False
    """Measured with a large resident heap as well."""

    @property
    def ours(self) -> bool:
        """Whether it is this package."""
        return self.kind in (Kind.PROCESS_POOL, Kind.COMMAND_POOL, Kind.PROCESS_BACKEND)


_ALL = (
    Contender(FLOOR, "C, posix_spawn: the floor", Kind.EXTERNAL, in_grid=True),
    Contender(FLOORS, "C, posix_spawn, one for each core", Kind.EXTERNAL),
    Contender("pool-uvloop-nice", "ProcessPool, uvloop, niceness 10", Kind.PROCESS_POOL, "uvloop", 10, True, True),
    Contender("pool-uvloop", "ProcessPool, uvloop", Kind.PROCESS_POOL, "uvloop", 0, True, True),
    Contender("pool-asyncio-nice", "ProcessPool, asyncio, niceness 10", Kind.PROCESS_POOL, "asyncio", 10),
    Contender("pool-asyncio", "ProcessPool, asyncio", Kind.PROCESS_POOL, "asyncio", 0, True, True),
    Contender("command-pool-uvloop", "CommandPool, uvloop", Kind.COMMAND_POOL, "uvloop", in_grid=True),
    Contender("backend-asyncio", "ProcessBackend, asyncio", Kind.PROCESS_BACKEND, "asyncio"),
    Contender("backend-uvloop", "ProcessBackend, uvloop", Kind.PROCESS_BACKEND, "uvloop"),
    Contender("asyncio", "asyncio + semaphore", Kind.SEMAPHORE, "asyncio", 0, True, True),
    Contender("uvloop", "uvloop + semaphore", Kind.SEMAPHORE, "uvloop", 0, True, True),
    Contender("anyio", "anyio.run_process", Kind.ANYIO, "asyncio", in_grid=True),
    Contender("threads", "threads + subprocess.run", Kind.THREADS, "asyncio", in_grid=True),
    Contender("xargs", "xargs -P", Kind.EXTERNAL, in_grid=True),
    Contender("parallel", "GNU parallel", Kind.EXTERNAL),
)

CONTENDERS = {contender.name: contender for contender in _ALL}
