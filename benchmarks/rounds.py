"""Carries the plan out, round by round, so that whatever else the machine does strikes all contenders alike."""

import random
import sys
from collections.abc import Callable

from benchmarks import child
from benchmarks.plan import Group
from benchmarks.results import Results
from benchmarks.sample import Sample, Spec

RUNNER = "benchmarks.runner"


def run_rounds(
    plan: list[Group],
    tools: dict[str, str],
    seed: int,
    measure: Callable[[Spec, dict[str, str]], Sample] | None = None,
) -> Results:
    """Measure every group as often as it says.

    The first rounds of all groups come first, then the second ones, and so on: rounds that are far apart in time say
    more than rounds that are not.

    Args:
        plan: The groups.
        tools: The paths of the external contenders.
        seed: Of the order within the rounds.
        measure: Takes one measurement; that of a new runner process by default.
    """
    results = Results()
    order = random.Random(seed)
    measure = measure or measure_in_process
    for number in range(max(group.rounds for group in plan)):
        for group in plan:
            if number >= group.rounds:
                continue
            print(f"round {number + 1} of {group.rounds}: {group.title}", file=sys.stderr, flush=True)
            for spec in order.sample(group.specs, len(group.specs)):
                try:
                    results.add(number, spec, measure(spec, tools))
                except child.MeasurementFailed as failure:
                    results.add_failure(spec, str(failure))
                    print(f"  {spec.contender}: {failure}", file=sys.stderr, flush=True)
    return results


def measure_in_process(spec: Spec, tools: dict[str, str]) -> Sample:
    """Take one measurement in a new process.

    Raises:
        MeasurementFailed: The process failed.
    """
    tool = [tools[spec.contender]] if spec.contender in tools else []
    return Sample.from_fields(child.answer(RUNNER, [spec.to_json(), *tool]))
