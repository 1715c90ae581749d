"""What is measured in a run: groups of measurements that belong side by side."""

import dataclasses

from benchmarks.contenders import CONTENDERS
from benchmarks.options import Options
from benchmarks.sample import Spec
from benchmarks.workloads import TRUE, WORKLOADS

MAIN_IN_FLIGHT = 16
GRID_IN_FLIGHT = (1, 2, 8, 16, 64, 500)
GRID_SECONDS = 0.4
GRID_LAG_SECONDS = 0.2


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Measurements that are compared with each other; in every round they follow each other in a random order."""

    title: str
    rounds: int
    specs: tuple[Spec, ...]


def make_plan(options: Options, missing: dict[str, str]) -> list[Group]:
    """The groups of a run, without the contenders that are not there."""
    present = [c for c in CONTENDERS.values() if c.name in options.only and c.name not in missing]

    def spec(name: str, heap: int = 0) -> Spec:
        return Spec(name, TRUE.name, MAIN_IN_FLIGHT, heap, options.seconds, options.lag_seconds)

    main = [spec(contender.name) for contender in present]
    if options.heap:
        main += [spec(contender.name, options.heap) for contender in present if contender.with_heap]
    groups = [Group(f"{TRUE.name}, {MAIN_IN_FLIGHT} in flight", options.rounds, tuple(main))]
    if options.grid_rounds:
        for workload in WORKLOADS.values():
            for in_flight in GRID_IN_FLIGHT:
                if (workload, in_flight) != (TRUE, MAIN_IN_FLIGHT):
                    specs = tuple(
                        Spec(c.name, workload.name, in_flight, 0, GRID_SECONDS, GRID_LAG_SECONDS)
                        for c in present
                        if c.in_grid
                    )
                    groups.append(Group(f"{workload.name}, {in_flight} in flight", options.grid_rounds, specs))
    return groups
