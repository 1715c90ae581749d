"""The backends under torture, and what each promises. A new one is a line here."""

import dataclasses
from collections.abc import Callable

from aiocmdpool.backends.child.process import ProcessBackend
from aiocmdpool.backends.child.thread import ThreadBackend
from aiocmdpool.backends.config import ExecutionBackend
from aiocmdpool.backends.process_pool import ProcessPoolBackend

from .behaviours import Behaviour
from .triggers import TRIGGERS


@dataclasses.dataclass(frozen=True)
class Backend:
    """A backend, and the ways to an end after which it promises that nothing is left."""

    make: Callable[[], ExecutionBackend]
    promises: frozenset[str]
    has_workers: bool = False
    finds_anonymous_after: frozenset[str] = frozenset()
    """The triggers after which even a process is ended that nothing names: those that end all the worker has."""

    def promise(self, behaviour: Behaviour, trigger: str) -> bool:
        """Whether nothing may be left."""
        if behaviour.needs_worker and not self.has_workers:
            return False  # it would be the host itself that is stopped, or that waits for a file system
        if behaviour.forges and trigger == "exit" and not self.has_workers:
            return False  # an orphan comes to a subreaper, as workers are; elsewhere nothing tells whose it was
        return trigger in (self.finds_anonymous_after if behaviour.anonymous else self.promises)


_IN_LIFE = frozenset(TRIGGERS) - {"worker_kill", "host_kill", "host_and_workers_kill", "host_os_exit"}

BACKENDS = {
    "process": Backend(lambda: ProcessBackend(), _IN_LIFE),
    "thread": Backend(lambda: ThreadBackend(), _IN_LIFE),
    "process_pool": Backend(
        lambda: ProcessPoolBackend(2),
        frozenset(TRIGGERS),
        True,
        frozenset({"close", "host_kill", "host_os_exit", "host_sys_exit", "host_exception"}),
    ),
}


def workers_of(backend: object) -> tuple[int, ...]:
    """The pids of its workers, if it has any."""
    pool = getattr(backend, "pool", None)
    return () if pool is None else pool.statistics().pids
