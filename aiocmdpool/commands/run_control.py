"""`RunControl`: access to a run in progress, for live processes and pipelines."""

import signal
from collections.abc import Callable
from typing import NamedTuple

from aiocmdpool.commands.errors import ConfigError


class ChildSetup(NamedTuple):
    """Settings of the child process beyond those of a `CommandConfig`."""

    executable: str | None = None
    """Path of the file to execute instead of the program, which remains its `argv[0]`; `None` for the program."""
    pass_fds: tuple[int, ...] = ()
    """Descriptors of this process that the program gets under the same numbers."""
    extra_groups: tuple[int, ...] | None = None
    """Supplementary groups of the program, in place of its user's; `None` for those."""
    new_session: bool = False
    """Whether the program becomes the leader of a new session."""
    terminal: int | None = None
    """Number of the standard stream whose terminal controls that session; `None` for none."""

    def settings(self) -> dict[str, str]:
        """Return the settings for the launcher to apply in the new process; see `standalone/kernel/launcher.py`."""
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


class SameWorker:
    """A token shared by runs that are to be started by the same worker.

    Stages of a pipeline on two workers are in two sessions, which the kernel schedules apart (sched(7), "The autogroup
    feature"): what goes from one to the other takes a fifth longer.

    Attributes:
        chosen: The executor's choice for the first of these runs.
    """

    __slots__ = ("chosen",)

    def __init__(self) -> None:
        self.chosen: object = None


class RunControl:
    """Access to one run in progress, passed to a backend's `execute` together with the command; one for each run.

    Args:
        on_start: Called once, when the program runs. From then on the descriptors that the command named belong to the
            program as well, and can be closed here.
        setup: Settings of the child process.
        same_worker: Shared with other runs that are to go to the same worker.
    """

    __slots__ = ("_on_start", "_send_signal", "here", "pid", "same_worker", "setup")

    def __init__(
        self, on_start: Callable[[], None], setup: ChildSetup | None = None, same_worker: SameWorker | None = None
    ) -> None:
        self.setup = setup
        self.same_worker = same_worker
        self.pid: int | None = None
        """Process id of the program; `None` before its start."""
        self.here: frozenset[str] = frozenset()
        """Names of the streams whose files only this process can open, as a worker has found out: their paths lead
        to the process that opens them (such as /dev/fd).
        """
        self._on_start = on_start
        self._send_signal: Callable[[int], None] | None = None

    def send_signal(self, number: int) -> None:
        """Send a signal to the program alone, not to its group; does nothing before its start and after its end.

        Raises:
            ConfigError: There is no such signal; a worker could not tell any more.
        """
        if not isinstance(number, int) or number not in range(signal.NSIG):
            message = (
                f"signal: {number!r} is no signal; give signal.SIGTERM, say, or a number from 0 to {signal.NSIG - 1}"
            )
            raise ConfigError(message, field="signal")
        if self._send_signal is not None:
            self._send_signal(number)

    # -- for the backend --------------------------------------------------------------------------------------------

    def started(self, pid: int, send_signal: Callable[[int], None]) -> None:
        """Note that the program runs as `pid`, and call `on_start`; called by the backend."""
        self.pid = pid
        self._send_signal = send_signal
        self._on_start()

    def ended(self) -> None:
        """Note that the program has been reaped: its pid may be given to another process from now on."""
        self._send_signal = None
