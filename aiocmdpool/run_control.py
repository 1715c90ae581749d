"""A hand on a run in progress, for those who talk to the program: `live/` and pipelines."""

from collections.abc import Callable


class RunControl:
    """Given to a backend's `execute` together with a command; one for each run.

    Args:
        on_start: Called, once, when the program runs. From then on the descriptors that the command named belong to the
            program as well, and can be closed here.
    """

    __slots__ = ("_on_start", "_send_signal", "pid")

    def __init__(self, on_start: Callable[[], None]) -> None:
        self.pid: int | None = None
        """Of the program; `None` before its start."""
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
