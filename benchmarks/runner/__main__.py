"""`python -m benchmarks.runner SPEC`: measure once, print a `Sample`."""

import asyncio
import resource
import sys
from collections.abc import Callable

import uvloop

from benchmarks.contenders import CONTENDERS, Kind
from benchmarks.runner import external
from benchmarks.runner.drive import drive
from benchmarks.runner.executors import one_command
from benchmarks.sample import Sample, Spec
from benchmarks.workloads import WORKLOADS

ENOUGH_DESCRIPTORS = 16384  # for 500 commands in flight, each with two pipes, and more where a contender wastes some

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def main() -> None:
    """Read the command line and measure."""
    spec = Spec.from_json(sys.argv[1])
    contender = CONTENDERS[spec.contender]
    allow_descriptors()
    if contender.kind is Kind.EXTERNAL:
        sample = external.measure(sys.argv[2], contender.name, WORKLOADS[spec.workload], spec)
    else:
        heap = occupy(spec.heap)
        sample = run_on(contender.loop, spec)
        del heap
    print(sample.to_json())


def run_on(loop: str, spec: Spec) -> Sample:
    """Measure on a loop of that name."""

    async def measure() -> Sample:
        async with one_command(CONTENDERS[spec.contender], WORKLOADS[spec.workload], spec.in_flight) as run_one:
            return await drive(run_one, spec)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(measure())


def occupy(size: int) -> bytearray:
    """Memory that is really there: multiplied, every page is written, which a zero-filled `bytearray` would not be."""
    return bytearray(b"\x01") * size


def allow_descriptors() -> None:
    """Raise the soft limit on descriptors as far as needed and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(ENOUGH_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    main()
