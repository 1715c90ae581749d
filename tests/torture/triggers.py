"""What ends a run, or what runs it: a new trigger is a line here and a coroutine in `host.py`."""

import dataclasses
from typing import Any

from .behaviours import LEAVE, STAY, Behaviour


@dataclasses.dataclass(frozen=True)
class Trigger:
    """One way to an end."""

    outcomes: frozenset[str]
    """What the caller may get: a type, with its end reason or with any; empty where no caller is left."""
    ending: str = STAY
    floods: bool | None = None
    """Only for programs that flood, only for those that do not, or for both."""
    limit: float | None = None
    """Seconds to the death of the last process after which it is late; `None`: the grace, and what is tolerated."""
    spares: bool = False
    """Whether it ends single runs only, so that their neighbours go on."""

    def concerns(self, name: str, behaviour: Behaviour) -> bool:
        """Whether the behaviour can meet it, which has this name among the triggers."""
        fits = self.floods is None or self.floods is behaviour.floods
        wanted = behaviour.triggers is None or name in behaviour.triggers
        return fits and wanted and self.ending in behaviour.endings and behaviour.available

    def expects(self, behaviour: Behaviour) -> frozenset[str]:
        """What the caller of such a program may get; empty where no caller is left."""
        if not self.outcomes:
            return self.outcomes
        also: set[str] = set()
        if behaviour.ends_parent:
            also |= {"WorkerLost"}
        if behaviour.unkillable:
            also |= {"ChildError"}
        if behaviour.on_the_mount:
            also |= {"IoError", "CommandTimeout", "ChildError"}
        if also and "CancelledError cancelled" in self.outcomes:
            also.add("CancelledError")  # there may be no result that could say why it ended
        return self.outcomes | also


def _trigger(*outcomes: str, **options: Any) -> Trigger:
    return Trigger(frozenset(outcomes), **options)


TRIGGERS = {
    "exit": _trigger("CommandResult exited", ending=LEAVE, spares=True),
    "timeout": _trigger("CommandTimeout timeout", spares=True),
    "idle_timeout": _trigger("CommandTimeout idle_timeout", floods=False, spares=True),
    "output_limit": _trigger("OutputLimitExceeded output_limit", floods=True, spares=True),
    "cancel": _trigger("CancelledError cancelled", spares=True),
    "close": _trigger("TaskCancelled closed"),
    "worker_kill": _trigger("WorkerLost"),
    "host_kill": _trigger(),
    "host_and_workers_kill": _trigger(limit=1.0),
    "host_os_exit": _trigger(),
    "host_sys_exit": _trigger("CancelledError cancelled"),
    "host_exception": _trigger("CancelledError cancelled"),
}

HOST_ENDS = frozenset(name for name in TRIGGERS if name.startswith("host_"))
