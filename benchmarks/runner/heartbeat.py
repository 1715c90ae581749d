"""How late a loop is: a callback that asks to be called every millisecond, and notes by how much it was missed.

A timer of a loop is only as fine as its clock, a millisecond in both asyncio and uvloop; an idle loop is therefore late
too, by about half of one. `python -m benchmarks` measures that, and what a beat costs, as a figure of its own.
"""

import asyncio
import time

BEAT = 0.001  # seconds


class Heartbeat:
    """Beats from the moment it is made until `stop`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._delays: list[float] = []
        self._next()

    def _next(self) -> None:
        self._due = time.monotonic() + BEAT
        self._timer = self._loop.call_later(BEAT, self._beat)

    def _beat(self) -> None:
        self._delays.append(max(0.0, time.monotonic() - self._due))
        self._next()

    def stop(self) -> list[float]:
        """The delays in seconds, sorted; never empty: a beat that is overdue counts as late as it is."""
        self._timer.cancel()
        self._delays.append(max(0.0, time.monotonic() - self._due))
        return sorted(self._delays)
