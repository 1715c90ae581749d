"""`Admission`: delays starts until there is memory and CPU for them, like `parallel --memfree` and `--load`.

Figures are checked when a command wants to start, when one has ended, and at intervals while commands are held back.
The kernel has no event for `MemAvailable`. For pressure it has triggers (a write to `/proc/pressure/cpu`, then `poll`),
but they report a rise, and held-back commands wait for the fall, which nothing reports; a trigger is also a descriptor
that somebody would have to close, and policies have no end of their own. So polling is all that is left.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ConfigError
from aiocmdpool.commands.executor import CommandExecutor, checked_executor
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.live.controlled import execute_on
from aiocmdpool.policies.headroom import CpuPressure, Memory
from aiocmdpool.policies.wrapper import Wrapper
from aiocmdpool.system.safe_log import SafeLog

T = TypeVar("T")

FRESH = 0.05  # seconds for which a check that found headroom serves other starts: it takes some 50 µs

_log = SafeLog(__name__)


class Admission(Wrapper):
    """An executor that starts commands in the order of the calls, and only while there is headroom. One may always run.

    Running commands are left alone. A program needs time to take its memory, so after commands were held back, starts
    come an `interval` apart, or at the end of a command, until nobody waits any more. If there is enough for all,
    nothing is delayed; the number of commands at once is for the pool to limit.

    If figures cannot be read any more, though they could at the beginning, nothing is held back; that is logged once.

    Concurrency: belongs to one loop.

    Cancellation: a cancelled command that waited has no effect; the end of a command makes the next one check.

    Ownership: does not close the executor. Commands that wait here when it closes get its `PoolClosed` at their turn.

    Args:
        executor: The executor that runs the commands.
        min_memory: Bytes that must be available: `MemAvailable`, or what is left to the control group if that is less.
        max_cpu_pressure: Percent of the last ten seconds in which some program may have waited for a CPU (`some avg10`
            of `/proc/pressure/cpu`; that of the control group if it has a quota).
        interval: Seconds between checks while commands are held back.

    Raises:
        ConfigError: A setting is wrong, or needs a figure that this system does not provide.

    Example:
        >>> async with CommandPool(executor=Admission(backend, min_memory=2 << 30, max_cpu_pressure=60)) as pool:
        ...     result = await pool.execute(CommandConfig("ffmpeg", ["-i", "in.mkv", "out.mp4"]))
    """

    def __init__(
        self,
        executor: CommandExecutor,
        *,
        min_memory: int | None = None,
        max_cpu_pressure: float | None = None,
        interval: float = 1.0,
    ) -> None:
        self._executor = checked_executor(executor)
        self._min_memory: int | None = validate.whole_number(1, optional=True)("min_memory", min_memory)
        self._max_pressure: float | None = validate.number(0, 100, optional=True)("max_cpu_pressure", max_cpu_pressure)
        self._interval: float = validate.number(0, above=True)("interval", interval)
        if min_memory is None and max_cpu_pressure is None:
            raise ConfigError("min_memory: neither this nor max_cpu_pressure is given", field="min_memory")
        self._memory = None if min_memory is None else _readable("min_memory", Memory)
        self._pressure = None if max_cpu_pressure is None else _readable("max_cpu_pressure", CpuPressure)
        self._blind = False
        self._turn = asyncio.Lock()
        self._news: asyncio.Future[None] | None = None  # of the command whose turn it is
        self._running = self._waiting = 0
        self._reason: str | None = None  # for holding commands back until `_look_at`
        self._look_at = 0.0
        self._paced = False  # commands were held back, and some have waited ever since

    async def execute(self, command: CommandConfig, *, control: RunControl | None = None) -> CommandResult:
        """Wait for headroom, run `command` and return its result; see `CommandExecutor.execute`."""
        await self._admit()
        try:
            return await execute_on(self._executor, command, control)
        finally:
            self._running -= 1
            self._tell()

    async def _admit(self) -> None:
        """Wait for headroom, and count the command as running. Nothing is awaited after that."""
        loop = asyncio.get_running_loop()
        self._waiting += 1
        try:
            async with self._turn:
                while self._reason_to_hold(loop.time()) is not None:
                    self._paced = True
                    await self._next_look(loop)
                self._running += 1
        finally:
            self._waiting -= 1
            self._paced = self._paced and self._waiting > 0
        if self._paced:
            self._reason, self._look_at = "the start before shall show its effect", loop.time() + self._interval

    def _reason_to_hold(self, now: float) -> str | None:
        if not self._running:
            return None
        if now >= self._look_at:
            reason = self._look()
            if reason is not None and not self._paced:
                _log.info("%d commands wait: %s", self._waiting, reason)
            self._reason, self._look_at = reason, now + (FRESH if reason is None else self._interval)
        return self._reason

    def _look(self) -> str | None:
        """Return a text why nothing may start now; `None` if there is headroom."""
        try:
            if self._memory is not None and self._min_memory is not None:
                available = self._memory.available()
                if available < self._min_memory:
                    return f"{available >> 20} MiB of memory are available, less than {self._min_memory >> 20}"
            if self._pressure is not None and self._max_pressure is not None:
                percent = self._pressure.percent()
                if percent > self._max_pressure:
                    return f"the pressure on the CPU is {percent:g} %, more than {self._max_pressure:g}"
        except (OSError, ValueError) as error:
            if not self._blind:
                _log.warning("nothing is held back any more, as the room cannot be seen: %s", error)
            self._blind = True
        return None

    async def _next_look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait until the next check is due, or a command has ended."""
        self._news = loop.create_future()
        timer = loop.call_at(self._look_at, self._tell)
        try:
            await self._news
        finally:
            timer.cancel()
            self._news = None

    def _tell(self) -> None:
        if self._waiting:
            self._look_at = 0.0
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def __repr__(self) -> str:
        limits = [] if self._min_memory is None else [f"{self._min_memory >> 20} MiB available"]
        limits += [] if self._max_pressure is None else [f"CPU pressure up to {self._max_pressure:g} %"]
        state = f"{self._running} running, {self._waiting} waiting"
        if self._waiting and self._reason:
            state += f" ({self._reason})"
        return f"<Admission {', '.join(limits)}, {state}, around {self._executor!r}>"


def _readable(field: str, figure: Callable[[], T]) -> T:
    try:
        return figure()
    except (OSError, ValueError) as error:
        message = (
            f"{field}: this system does not tell: {error}. It takes Linux, and for pressure a kernel that measures it "
            "(4.20 or newer, not started with psi=0); leave the setting out here"
        )
        raise ConfigError(message, field=field) from error
