"""The contenders that are programs of their own: the C floor, `xargs`, GNU parallel.

They are asked for a number of commands, so how many fit into the time is found out first. What a tool needs to get
going is measured with a single command, and does not count: the others are warm as well when their clock starts.
"""

import json
import os
import subprocess
import tempfile
import time

from benchmarks.contenders import FLOOR, FLOORS
from benchmarks.sample import Sample, Spec
from benchmarks.workloads import Workload

CHUNK = 1024 * 1024  # bytes read at once from a tool
CORES = os.cpu_count() or 1


def measure(tool: str, name: str, workload: Workload, spec: Spec) -> Sample:
    """Measure a tool.

    Args:
        tool: Its path.
        name: Which of the contenders it is.
        workload: What it runs.
        spec: The measurement.
    """
    if name in (FLOOR, FLOORS):
        return _measure_floor(tool, CORES if name == FLOORS else 1, workload, spec)
    start = _run_lines(tool, name, workload, 1, 1)
    guess = 4 * spec.in_flight + 40
    count = _fitting(guess, _run_lines(tool, name, workload, spec.in_flight, guess) - start, spec)
    seconds = _run_lines(tool, name, workload, spec.in_flight, count)
    return Sample(rate=count / max(seconds - start, 1e-6))


def _fitting(guess: int, seconds: float, spec: Spec) -> int:
    """How many commands fit into the time, after so many took so many seconds."""
    return max(spec.in_flight, int(guess / max(seconds, 1e-6) * spec.seconds))


def _measure_floor(tool: str, processes: int, workload: Workload, spec: Spec) -> Sample:
    guess = 4 * spec.in_flight + 200
    seconds, _ = _run_floor(tool, processes, workload, spec.in_flight, guess)
    count = _fitting(guess, seconds, spec) // processes * processes
    seconds, cpu = _run_floor(tool, processes, workload, spec.in_flight, count)
    return Sample(rate=count / seconds, cpu=cpu / count)


def _run_floor(tool: str, processes: int, workload: Workload, in_flight: int, count: int) -> tuple[float, float]:
    """Run the floor, in one process or shared out among several: seconds, and CPU seconds of all."""
    argv = [tool, str(max(1, in_flight // processes)), str(count // processes), *workload.argv]
    running = [subprocess.Popen(argv, stdout=subprocess.PIPE) for _ in range(processes)]
    said: list[dict[str, float]] = [json.loads(process.communicate()[0]) for process in running]
    captured = sum(report["captured"] for report in said)
    if captured != workload.output * (count // processes) * processes:
        raise ValueError(f"the floor captured {captured} bytes of {count} times {workload.name}")
    return max(report["seconds"] for report in said), sum(report["cpu"] for report in said)


def _run_lines(tool: str, name: str, workload: Workload, in_flight: int, count: int) -> float:
    """Run a tool that takes its commands from lines of input; the seconds it took."""
    # Both tools put a line in the place of the last argument; `true` does not mind one.
    *words, last = workload.argv if workload.args else [*workload.argv, "1"]
    flags = ["-n", "1", "-P"] if name == "xargs" else ["--will-cite", "-j"]
    with tempfile.TemporaryFile() as lines:
        lines.write(f"{last}\n".encode() * count)
        lines.seek(0)
        began = time.monotonic()
        process = subprocess.Popen([tool, *flags, str(in_flight), *words], stdin=lines, stdout=subprocess.PIPE)
        assert process.stdout is not None
        size = 0
        while data := os.read(process.stdout.fileno(), CHUNK):
            size += len(data)
        if process.wait() != 0 or size != workload.output * count:
            raise ValueError(f"{name} ended with exit status {process.returncode} and {size} bytes of output")
        return time.monotonic() - began
