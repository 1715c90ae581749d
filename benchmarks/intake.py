"""How fast threads can push to a loop: `python -m benchmarks.intake [--rounds N] [--pushes N] [--output FILE]`.

Producer threads push the same number of commands together, and the loop takes them in, but runs none: what is measured
is the way from a thread into the queue, in wall-clock time for each push.

- `push`: until the threads are done with pushing; what a thread is held up.
- `arrival`: until everything is in the queue. For `CommandPoolSeg` that is the same: it pushes into the queue itself.
- `stall`: the longest time in which the loop did not get a turn meanwhile.

The contenders take turns within each round, in an order of its own, so that other load hits all of them.
"""

import argparse
import asyncio
import dataclasses
import json
import pathlib
import random
import statistics
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from aiocmdpool import CommandConfig, CommandResult
from aiocmdpool.pool.seg_pool import CommandPoolSeg
from benchmarks.machine import describe_machine, one_line
from benchmarks.quantiles import Spread
from benchmarks.record import save_text

COMMAND = CommandConfig("true")
THREADS = (1, 8)
RESULTS = pathlib.Path(__file__).parent / "results" / "intake.json"
GOAL = 20.0  # times as fast as `run_coroutine_threadsafe(queue.put(…))`


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One measurement, in seconds."""

    push: float
    arrival: float
    stall: float


class Producers:
    """Threads that push so many commands each, and begin together."""

    def __init__(self, threads: int, pushes: int, push: Callable[[], object]) -> None:
        self._push = push
        self._pushes = pushes
        self._together = threading.Barrier(threads + 1)
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        push = self._push
        self._together.wait()
        for _ in range(self._pushes):
            push()

    def push_all(self) -> tuple[float, float]:
        """When it began, and when the last of them was done."""
        self._together.wait()
        began = time.perf_counter()
        for thread in self._threads:
            thread.join()
        return began, time.perf_counter()


class Heartbeat:
    """How long the loop does not come round."""

    def __init__(self) -> None:
        self.worst = 0.0
        self._last = time.perf_counter()
        self._task = asyncio.ensure_future(self._beat())

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            self.worst = max(self.worst, now - self._last - 0.001)
            self._last = now

    def stop(self) -> float:
        self._task.cancel()
        return max(self.worst, time.perf_counter() - self._last - 0.001)


class Busy:
    """An executor that is busy for good, so that what is pushed stays in the queue."""

    async def execute(self, command: CommandConfig) -> CommandResult:
        await asyncio.Event().wait()
        raise AssertionError


async def command_pool_seg(threads: int, pushes: int) -> Sample:
    pool = CommandPoolSeg(executor=Busy())
    await pool.start_executor(1)
    return await _measure(
        threads, pushes, lambda: pool.push_task(COMMAND), lambda: pool.statistics().submitted, pool.stop
    )


async def coroutine_threadsafe(threads: int, pushes: int) -> Sample:
    queue: asyncio.Queue[CommandConfig] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    push = lambda: asyncio.run_coroutine_threadsafe(queue.put(COMMAND), loop)  # noqa: E731  # as one would write it
    return await _measure(threads, pushes, push, queue.qsize)


async def call_soon_threadsafe(threads: int, pushes: int) -> Sample:
    queue: asyncio.Queue[CommandConfig] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    return await _measure(threads, pushes, lambda: loop.call_soon_threadsafe(queue.put_nowait, COMMAND), queue.qsize)


async def _measure(
    threads: int,
    pushes: int,
    push: Callable[[], object],
    arrived: Callable[[], int],
    stop: Callable[..., Awaitable[None]] | None = None,
) -> Sample:
    producers = Producers(threads, pushes, push)
    heartbeat = Heartbeat()
    began, pushed = await asyncio.to_thread(producers.push_all)
    while arrived() < threads * pushes:
        await asyncio.sleep(0)
    sample = Sample(pushed - began, max(pushed, time.perf_counter()) - began, heartbeat.stop())
    if stop is not None:
        await stop(drain=False)
    return sample


CONTENDERS = {
    "CommandPoolSeg": command_pool_seg,
    "run_coroutine_threadsafe": coroutine_threadsafe,
    "call_soon_threadsafe": call_soon_threadsafe,
}
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}
Cell = tuple[str, int, str]


def measure(rounds: int, pushes: int, seed: int) -> dict[Cell, list[Sample]]:
    """Everything, by loop, number of threads and contender."""
    cells = [(loop, threads, name) for loop in LOOPS for threads in THREADS for name in CONTENDERS]
    samples: dict[Cell, list[Sample]] = {cell: [] for cell in cells}
    order = random.Random(seed)
    for number in range(rounds):
        for loop, threads, name in order.sample(cells, len(cells)):
            with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
                samples[loop, threads, name].append(runner.run(CONTENDERS[name](threads, pushes)))
        print(f"round {number + 1} of {rounds}")
    return samples


def report(samples: dict[Cell, list[Sample]], pushes: int) -> list[dict[str, Any]]:
    """The medians, and how they stand to `CommandPoolSeg` of the same rounds."""
    records = []
    for (loop, threads, name), mine in samples.items():
        ours = samples[loop, threads, "CommandPoolSeg"]
        record: dict[str, Any] = {"loop": loop, "threads": threads, "contender": name}
        for figure in ("push", "arrival"):
            seconds = [getattr(sample, figure) / (threads * pushes) for sample in mine]
            ratios = [getattr(a, figure) / getattr(b, figure) for a, b in zip(mine, ours, strict=True)]
            record[f"{figure}_seconds"] = Spread.of(seconds).as_fields()  # type: ignore[union-attr]  # there are some
            record[f"{figure}_ratio"] = Spread.of(ratios).as_fields()  # type: ignore[union-attr]
        record["stall_seconds"] = statistics.median(sample.stall for sample in mine)
        records.append(record)
    return records


def table(records: list[dict[str, Any]]) -> str:
    """For people."""
    lines = [
        f"{'loop':8} {'threads':>7}  {'':26} {'push':>9} {'arrival':>9}  {'/ ours':>7} {'/ ours':>9}  {'stall':>8}"
    ]
    for record in records:
        push, arrival = record["push_seconds"]["median"] * 1e6, record["arrival_seconds"]["median"] * 1e6
        times = f"{record['push_ratio']['median']:7.1f} {record['arrival_ratio']['median']:9.1f}"
        lines.append(
            f"{record['loop']:8} {record['threads']:7}  {record['contender']:26} {push:6.2f} µs {arrival:6.2f} µs  "
            f"{times}  {record['stall_seconds'] * 1e3:5.0f} ms"
        )
    return "\n".join(lines)


def main() -> None:
    """Read the command line, measure, report, save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.intake", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pushes", type=int, default=100_000, help="of each thread (default: 100000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS)
    given = parser.parse_args()
    machine = describe_machine()
    records = report(measure(given.rounds, given.pushes, given.seed), given.pushes)
    worst = min(
        record["arrival_ratio"]["median"] for record in records if record["contender"] == "run_coroutine_threadsafe"
    )
    print(f"\n{one_line(machine)}; load before the run {machine['load_before']}\n\n{table(records)}\n")
    print(
        f"goal: {GOAL:g} times run_coroutine_threadsafe; measured: {worst:.1f} times at least, of the medians by cell"
    )
    run = {"rounds": given.rounds, "pushes": given.pushes, "seed": given.seed}
    saved = {"machine": machine, "run": run, "units": "seconds for each push", "goal": GOAL, "figures": records}
    save_text(given.output, json.dumps(saved, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
