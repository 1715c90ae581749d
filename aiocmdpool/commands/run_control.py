"""A hand on a run in progress, for those who talk to the program: `live/` and pipelines."""

from collections.abc import Callable
from typing import NamedTuple


class ChildSetup(NamedTuple):
    """How the process of a program is set up, beyond what a `CommandConfig` says."""

    executable: str | None = None
    """What is run instead of the program, which remains its `argv[0]`."""
    pass_fds: tuple[int, ...] = ()
    """Descriptors of this process that the program has under the same numbers."""
    extra_groups: tuple[int, ...] | None = None
    """Its supplementary groups, in place of those that come with its user."""
    new_session: bool = False
    """Whether it leads a session of its own."""
    terminal: int | None = None
    """The standard stream whose terminal controls that session."""

    def settings(self) -> dict[str, str]:
        """What has to be prepared in the new process; see `standalone/kernel/launcher.py`."""
        settings = {}
        if self.new_session:
            settings["new_session"] = ""
        if self.terminal is not None:
            settings["terminal"] = str(self.terminal)
        if self.extra_groups is not None:
            settings["extra_groups"] = ",".join(map(str, self.extra_groups))
        if self.pass_fds:
            settings["pass_fds"] = ",".join(map(str, self.pass_fds))
        if self.executable is not None:
            settings["executable"] = self.executable
        return settings


class Place:
    """Shared by runs that are to be started in one place.

    Stages of a pipeline on two workers are in two sessions, which the kernel schedules apart (sched(7), "The autogroup
    feature"): what goes from one to the other takes a fifth longer.

    Attributes:
        chosen: What an executor has chosen for the first of them.
    """

    __slots__ = ("chosen",)

    def __init__(self) -> None:
        self.chosen: object = None


class RunControl:
    """Given to a backend's `execute` together with a command; one for each run.

    Args:
        on_start: Called, once, when the program runs. From then on the descriptors that the command named belong to the
            program as well, and can be closed here.
        setup: How its process is set up.
        place: Shared with other runs.
    """

    __slots__ = ("_on_start", "_send_signal", "here", "pid", "place", "setup")

    def __init__(
        self, on_start: Callable[[], None], setup: ChildSetup | None = None, place: Place | None = None
    ) -> None:
        self.setup = setup
        self.place = place
        self.pid: int | None = None
        """Of the program; `None` before its start."""
        self.here: frozenset[str] = frozenset()
        """The streams whose files only this process can open, as a worker has found: their paths lead to the process
        that opens them."""
        self._on_start = on_start
        self._send_signal: Callable[[int], None] | None = None

    def send_signal(self, number: int) -> None:
        """Signal the program, and it alone; harmless before its start and after its end."""
        if self._send_signal is not None:
            self._send_signal(number)

    # -- for the backend --------------------------------------------------------------------------------------------

    def started(self, pid: int, send_signal: Callable[[int], None]) -> None:
        """The program runs."""
        self.pid = pid
        self._send_signal = send_signal
        self._on_start()

    def ended(self) -> None:
        """It has been reaped: the number may be somebody else's from now on."""
        self._send_signal = None
