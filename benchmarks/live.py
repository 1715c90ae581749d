"""What it costs to talk to programs: `python -m benchmarks.live [--rounds N] [--output FILE]`.

Each figure is a ratio of two rates that were measured in turns in the same round (ours, theirs, theirs, ours; the other
way round in the next), so that whatever else the machine does strikes both alike.
"""

import argparse
import asyncio
import json
import os
import pathlib
import resource
import sys
import time
from collections.abc import Awaitable, Callable

import uvloop

from aiocmdpool import CommandConfig, ProcessPoolBackend
from aiocmdpool.live.pipeline_run import run_pipeline
from benchmarks.machine import describe_machine, one_line
from benchmarks.quantiles import Spread
from benchmarks.record import save_text
from benchmarks.table import aligned

RESULTS = pathlib.Path(__file__).parent / "results" / "live.json"
STREAMED = 2_000_000_000  # bytes
LINES = 1_000_000
LINE = "a short line"
QUESTIONS = 10_000
PROCESSES = 500
AT_ONCE = 16
PIPED = 1_000_000_000  # bytes
CHUNK = 65536  # bytes

Measure = Callable[[ProcessPoolBackend], Awaitable[None]]


async def stream_here(backend: ProcessPoolBackend) -> None:
    """2 GB of a program's stdout, through `chunks`."""
    size = 0
    async with backend.open(CommandConfig("head", ["-c", str(STREAMED), "/dev/zero"])) as process:
        async for chunk in process.stdout.chunks():
            size += len(chunk)
    assert size == STREAMED


async def stream_raw(_: ProcessPoolBackend) -> None:
    """The same with `add_reader` and `os.read`, and nothing else."""
    loop = asyncio.get_running_loop()
    read_end, write_end = os.pipe()
    child = await asyncio.create_subprocess_exec("head", "-c", str(STREAMED), "/dev/zero", stdout=write_end)
    os.close(write_end)
    os.set_blocking(read_end, False)
    size, ended = 0, loop.create_future()

    def read() -> None:
        nonlocal size
        data = os.read(read_end, CHUNK)
        size += len(data)
        if not data:
            loop.remove_reader(read_end)
            ended.set_result(None)

    loop.add_reader(read_end, read)
    await ended
    os.close(read_end)
    await child.wait()
    assert size == STREAMED


async def lines_here(backend: ProcessPoolBackend) -> None:
    """A million short lines."""
    count = 0
    async with backend.open(CommandConfig.shell(f"yes '{LINE}' | head -n {LINES}")) as process:
        async for _ in process.stdout:
            count += 1
    assert count == LINES


async def lines_asyncio(_: ProcessPoolBackend) -> None:
    """The same with `StreamReader.readline`."""
    count = 0
    script = f"yes '{LINE}' | head -n {LINES}"
    child = await asyncio.create_subprocess_shell(script, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    while await child.stdout.readline():
        count += 1
    await child.wait()
    assert count == LINES


async def questions_here(backend: ProcessPoolBackend) -> None:
    """Questions to a resident `cat`, each after the answer to the one before."""
    async with backend.open(CommandConfig("cat")) as process:
        for _ in range(QUESTIONS):
            process.stdin.write(b"question\n")
            await process.stdin.drain()
            await process.stdout.read_line()


async def questions_asyncio(_: ProcessPoolBackend) -> None:
    """The same with asyncio's streams."""
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe)
    assert child.stdin is not None
    assert child.stdout is not None
    for _number in range(QUESTIONS):
        child.stdin.write(b"question\n")
        await child.stdin.drain()
        await child.stdout.readline()
    child.stdin.close()
    await child.wait()


async def pipeline_here(backend: ProcessPoolBackend) -> None:
    """1 GB from one stage to the next."""
    pipeline = CommandConfig("head", ["-c", str(PIPED), "/dev/zero"]) | CommandConfig("wc", ["-c"])
    result = await run_pipeline(backend, pipeline)
    assert int(result.text()) == PIPED


async def pipeline_shell(backend: ProcessPoolBackend) -> None:
    """The same in a shell."""
    result = await backend.execute(CommandConfig.shell(f"head -c {PIPED} /dev/zero | wc -c"))
    assert int(result.text()) == PIPED


async def processes_here(backend: ProcessPoolBackend) -> None:
    """Many programs with asyncio's own `Process`, started by workers."""
    await _talk_to_many(backend.pool.create_subprocess_exec)


async def processes_asyncio(_: ProcessPoolBackend) -> None:
    """The same, started by asyncio, or uvloop."""
    await _talk_to_many(asyncio.create_subprocess_exec)


async def _talk_to_many(create: Callable[..., Awaitable[asyncio.subprocess.Process]]) -> None:
    permits = asyncio.Semaphore(AT_ONCE)

    async def talk() -> None:
        async with permits:
            process = await create("echo", "hello", stdout=asyncio.subprocess.PIPE)
            assert (await process.communicate())[0] == b"hello\n"

    await asyncio.gather(*(talk() for _ in range(PROCESSES)))


PAIRS: dict[str, tuple[Measure, Measure, float]] = {
    "stream 2 GB / raw pipe read": (stream_here, stream_raw, 0.95),
    "short lines / asyncio readline": (lines_here, lines_asyncio, 2.0),
    "request and answer / asyncio streams": (questions_here, questions_asyncio, 0.95),
    "create_subprocess_exec / asyncio's": (processes_here, processes_asyncio, 1.0),
    "pipeline of 1 GB / the shell's": (pipeline_here, pipeline_shell, 0.95),
}
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}


async def one_round(number: int) -> dict[str, float]:
    """How many times as fast we are, for each pair."""
    ratios = {}
    async with ProcessPoolBackend(2) as backend:
        await backend.execute(CommandConfig("true"))
        for name, (ours, theirs, _) in PAIRS.items():
            seconds = {ours: 0.0, theirs: 0.0}
            for measure in (ours, theirs, theirs, ours) if number % 2 else (theirs, ours, ours, theirs):
                begun = time.perf_counter()
                await measure(backend)
                seconds[measure] += time.perf_counter() - begun
            ratios[name] = seconds[theirs] / seconds[ours]
    return ratios


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="7 by default; with another number nothing is saved")
    parser.add_argument("--output", metavar="FILE", type=pathlib.Path, help="save there, whatever the run")
    given = parser.parse_args()
    machine = describe_machine()
    figures: dict[str, dict[str, list[float]]] = {loop: {name: [] for name in PAIRS} for loop in LOOPS}
    for number in range(given.rounds):
        print(f"round {number + 1} of {given.rounds}", file=sys.stderr, flush=True)
        for loop, factory in LOOPS.items():
            with asyncio.Runner(loop_factory=factory) as runner:
                for name, ratio in runner.run(one_round(number)).items():
                    figures[loop][name].append(ratio)
    spreads = {loop: {name: Spread.of(values) for name, values in each.items()} for loop, each in figures.items()}
    rows = [("", "loop", "ratio", "goal")]
    saved: dict[str, dict[str, dict[str, float]]] = {}
    for loop, each in spreads.items():
        for name, spread in each.items():
            assert spread is not None
            fields = spread.as_fields()
            saved.setdefault(loop, {})[name] = fields
            rows.append(
                (
                    name,
                    loop,
                    f"{fields['median']:.2f} ({fields['low']:.2f} to {fields['high']:.2f})",
                    f"{PAIRS[name][2]:g}",
                )
            )
    print(f"\n{one_line(machine)}; load before the run {machine['load_before']}\n\n{aligned(rows)}")
    print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")
    output = given.output or (RESULTS if given.rounds == parser.get_default("rounds") else None)
    if output is None:
        print("\nnot the whole run, so nothing is saved; --output FILE saves it there")
        return
    record = {
        "machine": machine,
        "rounds": given.rounds,
        "figures": saved,
        "goals": {n: p[2] for n, p in PAIRS.items()},
    }
    save_text(output, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(f"\nsaved {output.name}")


if __name__ == "__main__":
    main()
