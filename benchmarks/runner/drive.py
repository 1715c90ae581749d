"""Keeps commands in flight on the loop, and counts: first how many and at what cost, then how late the loop is.

    warm up ── count for `seconds` ── count the heartbeat's delays for `lag_seconds` ── let the last ones end

The heartbeat runs only after the count, because a thousand beats a second cost more than the commands of a good pool.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from benchmarks.process_figures import children, cpu_seconds
from benchmarks.quantiles import quantile
from benchmarks.runner.heartbeat import Heartbeat
from benchmarks.sample import Sample, Spec

WARM_UP = 0.3  # seconds, at least; workers start, caches fill
PATIENCE = 4.0  # seconds that a slow contender may take beyond what was asked, to complete a meaningful number
LOOK_EVERY = 0.05  # seconds


class _Load:
    """So many tasks that run one command after the other."""

    def __init__(self, run_one: Callable[[], Awaitable[None]], in_flight: int) -> None:
        self.completed = 0
        self._going = True
        self._run_one = run_one
        self._tasks = [asyncio.create_task(self._repeat()) for _ in range(in_flight)]

    async def _repeat(self) -> None:
        while self._going:
            await self._run_one()
            self.completed += 1

    async def last(self, seconds: float, at_least: int) -> None:
        """Wait so long, and until so many more commands are complete, but not for ever.

        Raises:
            Exception: Whatever went wrong with one of the commands.
        """
        goal = self.completed + at_least
        limit = time.monotonic() + seconds + PATIENCE
        await self._wait(seconds)
        while self.completed < goal and time.monotonic() < limit:
            await self._wait(LOOK_EVERY)

    async def _wait(self, seconds: float) -> None:
        done, _ = await asyncio.wait(self._tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    async def end(self) -> None:
        """Let the last commands end.

        Raises:
            Exception: Whatever went wrong with one of the commands.
        """
        self._going = False
        await asyncio.gather(*self._tasks)


async def drive(run_one: Callable[[], Awaitable[None]], spec: Spec) -> Sample:
    """Measure with `spec.in_flight` commands in flight at any time."""
    load = _Load(run_one, spec.in_flight)
    await load.last(WARM_UP, at_least=spec.in_flight)

    workers = children()
    completed, workers_cpu = load.completed, sum(map(cpu_seconds, workers))
    cpu, began = time.process_time(), time.monotonic()
    await load.last(spec.seconds, at_least=spec.in_flight)
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    completed, workers_cpu = load.completed - completed, sum(map(cpu_seconds, workers)) - workers_cpu

    heartbeat = Heartbeat()
    await load.last(spec.lag_seconds, at_least=0)
    delays = heartbeat.stop()
    await load.end()
    return Sample(
        rate=completed / seconds,
        cpu=cpu / completed if completed else None,
        worker_cpu=workers_cpu / completed if completed and workers_cpu > 0 else None,
        lag_p50=quantile(delays, 0.5),
        lag_p99=quantile(delays, 0.99),
        lag_max=delays[-1],
    )
