"""Runs one random schedule in a process of its own: `python -m torture.schedule_host`, its terms as JSON on stdin.

It says, as JSON on stdout, what it did and what is wrong. The seed decides on what is done and when; what meets what is
up to the machine, so the same seed tries the same thing again, without a promise that it comes out the same.
"""

import asyncio
import collections
import dataclasses
import json
import os
import random
import resource
import signal
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from aiocmdpool.backends.process_pool import ProcessPoolBackend
from aiocmdpool.backends.workers import heartbeat
from aiocmdpool.commands.errors import ExecuteError, IoError, PoolClosed, QueueFull, TaskCancelled, WorkerLost
from aiocmdpool.pool.command_pool import CommandPool

from .backends import BACKENDS, workers_of
from .behaviours import has_perl
from .commands import Sample, checksummed, harmless, hostile
from .host import LOOPS
from .invariants import left_since, possessions
from .survivors import Marks

if TYPE_CHECKING:
    from aiocmdpool.tasks.handle import TaskHandle

PATIENCE = 30.0  # seconds for everything to be settled after the end
HANG_AFTER = 1.5  # seconds of silence after which a worker is given up, rather than five
ACTIONS = {"push": 30, "push_hostile": 8, "cancel": 6, "cancel_await": 3, "clear": 1, "pop": 1}
FAULTS = {"kill_worker": 2, "stop_worker": 1, "continue_worker": 2}


@dataclasses.dataclass(frozen=True)
class Terms:
    """What is to be tried."""

    seed: int
    backend: str
    loop: str
    token: str
    first: int
    """Number of the first mark."""
    steps: int = 60
    starved: bool = False
    """Whether there is room for a few descriptors only, until the end is near."""


class Schedule:
    """One schedule, and the books that have to balance at its end."""

    def __init__(self, terms: Terms) -> None:
        self._terms, self._marks = terms, Marks(terms.token)
        self._chance = random.Random(terms.seed)
        self._next_mark = terms.first
        self._handles: dict[TaskHandle, Sample] = {}
        self._settled: collections.Counter[int] = collections.Counter()
        self._awaits: list[tuple[asyncio.Task[Any], Sample]] = []
        self._disturbed = self._closed_below = False
        self.log: list[str] = []
        self.wrong: list[str] = []
        self.ready = os.path.join(tempfile.gettempdir(), "ready")

    async def run(self) -> None:
        chance, terms = self._chance, self._terms
        backend = self._backend = BACKENDS[terms.backend].make()
        if isinstance(backend, ProcessPoolBackend):
            backend.pool._hang_after = HANG_AFTER
        self._pool = CommandPool(executor=backend, max_size=chance.choice([3, 20, 1000]))
        await self._backend.__aenter__()
        permits = chance.randint(2, 16)
        await self._pool.start_executor(permits)
        actions = {**ACTIONS, **(FAULTS if workers_of(self._backend) else {})}
        for _ in range(terms.steps):
            [action] = chance.choices(list(actions), list(actions.values()))
            self.log.append(action)
            getattr(self, f"_{action}")()
            await asyncio.sleep(chance.choice([0, 0, 0.001, 0.02]))
        await self._end()
        self._balance()

    # -- actions ------------------------------------------------------------------------------------------------------

    def _push(self) -> None:
        self._push_sample(harmless(self._chance))

    def _push_hostile(self) -> None:
        self._push_sample(self._hostile())

    def _hostile(self) -> Sample:
        self._next_mark += 1
        return hostile(self._chance, self.ready, self._marks.of(self._next_mark), anonymous=False)

    def _push_sample(self, sample: Sample) -> None:
        try:
            handle = self._pool.try_push_task(sample.command, priority=self._chance.randrange(3))
        except QueueFull:
            return
        self._handles[handle] = sample
        handle.add_done_callback(self._count)

    def _count(self, handle: "TaskHandle") -> None:
        self._settled[handle.id] += 1

    def _cancel(self) -> None:
        if self._handles:
            self._chance.choice(list(self._handles)).cancel()

    def _cancel_await(self) -> None:
        sample = self._hostile() if self._chance.random() < 0.5 else harmless(self._chance)
        task = asyncio.create_task(self._backend.execute(sample.command))
        self._awaits.append((task, sample))
        asyncio.get_running_loop().call_later(self._chance.choice([0, 0.003, 0.1]), task.cancel)

    def _clear(self) -> None:
        self._pool.clear()

    def _pop(self) -> None:
        self._pool.pop_task()

    def _signal_worker(self, number: int) -> None:
        pids = workers_of(self._backend)
        if pids:
            self._disturbed = True
            os.kill(self._chance.choice(pids), number)

    def _kill_worker(self) -> None:
        self._signal_worker(signal.SIGKILL)

    def _stop_worker(self) -> None:
        self._signal_worker(signal.SIGSTOP)

    def _continue_worker(self) -> None:
        self._signal_worker(signal.SIGCONT)

    # -- the end ------------------------------------------------------------------------------------------------------

    async def _end(self) -> None:
        """One of the ways in which an owner leaves, and nothing may be unsettled after any of them."""
        way = self._chance.choice(["drain", "hurry", "drain_a_little", "backend_first", "cancelled"])
        self.log.append(way)
        async with asyncio.timeout(PATIENCE):
            if self._terms.starved:
                await self._recover()
            if way == "backend_first":
                self._disturbed = True
                self._closed_below = True
                await self._backend.aclose()
            if way == "cancelled":
                stopping = asyncio.create_task(self._pool.stop())
                await asyncio.sleep(0.01)
                stopping.cancel()
                await asyncio.wait([stopping])
            await self._pool.stop(drain=way in ("drain", "drain_a_little"), timeout=0.05 if way != "drain" else None)
            if self._awaits:
                await asyncio.wait([task for task, _ in self._awaits])
            await self._backend.aclose()

    async def _recover(self) -> None:
        """The limit is gone: it works again."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
        sample = checksummed(self._chance)
        try:
            complaint = sample.check(await self._backend.execute(sample.command))
        except ExecuteError as error:
            complaint = f"{type(error).__name__}: {error}"
        if complaint:
            self.wrong.append(f"with {soft} descriptors again as many, it still does not work: {complaint}")

    def _balance(self) -> None:
        counts = self._pool.statistics()
        ends = (counts.completed, counts.failed, counts.cancelled)
        if counts.submitted != sum(ends) or counts.queued or counts.running:
            self.wrong.append(f"the statistics do not add up: {counts}")
        if counts.submitted != len(self._handles):
            self.wrong.append(f"{counts.submitted} tasks were submitted and {len(self._handles)} pushed")
        for handle, sample in self._handles.items():
            if self._settled[handle.id] != 1:
                self.wrong.append(f"task {handle.id}, {sample.kind}: settled {self._settled[handle.id]} times")
            else:
                self._judge(sample, handle.exception() or handle.result())
        for task, sample in self._awaits:
            if not task.cancelled():
                self._judge(sample, task.exception() or task.result())

    def _judge(self, sample: Sample, outcome: Any) -> None:
        if isinstance(outcome, TaskCancelled) or (isinstance(outcome, WorkerLost) and self._disturbed):
            return
        if isinstance(outcome, PoolClosed) and self._closed_below:
            return
        if self._terms.starved and isinstance(outcome, IoError | WorkerLost):
            return
        if complaint := sample.check(outcome):
            self.wrong.append(f"{sample.kind}: {complaint}")


def starve(chance: random.Random) -> None:
    """Leave room for a few descriptors above those that are open."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + chance.randint(8, 60), hard))


def main() -> None:
    terms = Terms(**json.load(sys.stdin))
    heartbeat.HEARTBEAT = 0.1  # seconds
    with asyncio.Runner(loop_factory=LOOPS[terms.loop]) as runner:
        runner.run(asyncio.sleep(0))  # what a loop makes once for the process is no leak
    asyncio.set_event_loop(None)
    schedule = Schedule(terms)
    os.mkfifo(schedule.ready)
    fifo = os.open(schedule.ready, os.O_RDWR | os.O_NONBLOCK)
    before = possessions()
    if terms.starved:
        has_perl()  # asked for later, and remembered: it takes descriptors
        starve(random.Random(terms.seed))
    unseen: list[str] = []
    with asyncio.Runner(loop_factory=LOOPS[terms.loop]) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: unseen.append(repr(context)))
        runner.run(schedule.run())
    asyncio.set_event_loop(None)
    wrong = [*schedule.wrong, *(f"left behind: {what}" for what in left_since(before))]
    wrong += [f"only the loop saw: {what}" for what in unseen]
    os.close(fifo)
    print(json.dumps({"wrong": wrong, "log": schedule.log}))


if __name__ == "__main__":
    main()
