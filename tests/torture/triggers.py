"""What ends a run, or what runs it: a new trigger is a line here and a coroutine in `host.py`."""

import dataclasses

from .behaviours import LEAVE, STAY, Behaviour


@dataclasses.dataclass(frozen=True)
class Trigger:
    """One way to an end."""

    outcomes: frozenset[str]
    """What the caller may get: the type of the error, with its end reason; empty where no caller is left."""
    ending: str = STAY
    floods: bool | None = None
    """Only for programs that flood, only for those that do not, or for both."""

    def concerns(self, behaviour: Behaviour) -> bool:
        """Whether the behaviour can meet it."""
        fits = self.floods is None or self.floods is behaviour.floods
        return fits and self.ending in behaviour.endings and behaviour.available


def _trigger(*outcomes: str, ending: str = STAY, floods: bool | None = None) -> Trigger:
    return Trigger(frozenset(outcomes), ending, floods)


TRIGGERS = {
    "exit": _trigger("CommandResult exited", ending=LEAVE),
    "timeout": _trigger("CommandTimeout timeout"),
    "idle_timeout": _trigger("CommandTimeout idle_timeout", floods=False),
    "output_limit": _trigger("OutputLimitExceeded output_limit", floods=True),
    "cancel": _trigger("CancelledError cancelled"),
    "close": _trigger("TaskCancelled closed"),
    "worker_kill": _trigger("WorkerLost"),
    "host_kill": _trigger(),
    "host_os_exit": _trigger(),
    "host_sys_exit": _trigger("CancelledError cancelled"),
    "host_exception": _trigger("CancelledError cancelled"),
}

HOST_ENDS = frozenset(name for name in TRIGGERS if name.startswith("host_"))
