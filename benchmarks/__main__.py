"""`python -m benchmarks`: measure, report, save."""

import os
import pathlib
import sys
import tempfile
import time

from benchmarks.contenders import CONTENDERS
from benchmarks.figures.every import measure_figures
from benchmarks.goals import judge
from benchmarks.machine import describe_machine, one_line
from benchmarks.options import Options
from benchmarks.picture import draw
from benchmarks.plan import make_plan
from benchmarks.process_figures import meminfo
from benchmarks.record import save_json, save_text
from benchmarks.rounds import run_rounds
from benchmarks.table import NOTES, comparison_text, figures_text
from benchmarks.tools import find_tools

SPARE_MEMORY = 1 << 30  # bytes that have to be available beyond the heap


def main() -> None:
    """Run what was asked for."""
    options, began = Options.parse(), time.monotonic()
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        tools, missing = find_tools(pathlib.Path(folder))
        words = [f"{CONTENDERS[name].label}: left out: {why}" for name, why in missing.items() if name in options.only]
        if options.heap and meminfo("MemAvailable") < options.heap + SPARE_MEMORY:
            words.append("2 GB heap: left out: there is not enough memory available")
            options = options.without_heap()
        for word in words:
            print(word, file=sys.stderr)
        results = run_rounds(make_plan(options, missing), tools, options.seed)
    figures, failures = measure_figures(options.quick)
    verdicts = judge(results, figures, options.heap)
    words += results.failures + failures

    print(f"\n{one_line(machine)}; load before the run {machine['load_before']}\n")
    print(comparison_text(results), NOTES, figures_text(figures), sep="\n\n")
    print("\ngoals (true, 16 in flight)", *verdicts, sep="\n  ")
    if words:
        print("\nleft out, or failed", *words, sep="\n  ")
    print(f"\n{time.monotonic() - began:.0f} s")

    if options.results is None or options.picture is None:
        print("not the whole run, so nothing is saved; --output DIR saves it there")
        return
    save_json(options.results, options, machine, results, figures, verdicts, words)
    save_text(options.picture, draw(results, options, machine))
    print(f"saved {os.path.relpath(options.results)} and {os.path.relpath(options.picture)}")


if __name__ == "__main__":
    main()
