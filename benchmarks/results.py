"""The samples of a run, by contender, cell and round; and the ratios between samples of the same round."""

from collections.abc import Callable
from typing import Any

from benchmarks.contenders import CONTENDERS, FLOOR
from benchmarks.quantiles import Spread
from benchmarks.sample import Sample, Spec
from benchmarks.workloads import WORKLOADS

WORKLOAD_ORDER = list(WORKLOADS)

Cell = tuple[str, int, int]  # workload, number in flight, heap in bytes

FIGURES: dict[str, Callable[[Sample], float | None]] = {
    "rate": lambda sample: sample.rate,
    "cpu": lambda sample: sample.cpu,
    "worker_cpu": lambda sample: sample.worker_cpu,
    "lag_p50": lambda sample: sample.lag_p50,
    "lag_p99": lambda sample: sample.lag_p99,
    "lag_max": lambda sample: sample.lag_max,
}


class Results:
    """What has been measured so far."""

    def __init__(self) -> None:
        self._samples: dict[tuple[str, Cell], dict[int, Sample]] = {}
        self.failures: list[str] = []

    def add(self, number: int, spec: Spec, sample: Sample) -> None:
        """Keep a sample of a round."""
        self._samples.setdefault((spec.contender, spec.cell), {})[number] = sample

    def add_failure(self, spec: Spec, why: str) -> None:
        """Keep in mind that a measurement failed."""
        workload, in_flight, heap = spec.cell
        beside = f", {heap >> 30} GB resident" if heap else ""
        self.failures.append(f"{spec.contender} ({workload}, {in_flight} in flight{beside}): {why}")

    def cells(self) -> list[Cell]:
        """The cells there is anything of, those with a heap after those without."""
        return sorted(
            {cell for _, cell in self._samples}, key=lambda cell: (cell[2], WORKLOAD_ORDER.index(cell[0]), cell[1])
        )

    def contenders(self, cell: Cell) -> list[str]:
        """Who was measured in a cell, in the order of the list of contenders."""
        return [name for name in CONTENDERS if (name, cell) in self._samples]

    def spread(self, contender: str, cell: Cell, figure: str) -> Spread | None:
        """A figure over all rounds."""
        samples = self._samples.get((contender, cell), {}).values()
        return Spread.of(value for sample in samples if (value := FIGURES[figure](sample)) is not None)

    def ratio(self, contender: str, cell: Cell, other: str = FLOOR, other_cell: Cell | None = None) -> Spread | None:
        """Commands a second of one contender relative to another, round by round.

        Args:
            contender: The one above the line.
            cell: Where it was measured.
            other: The one below the line.
            other_cell: Where that one was measured; in the same cell by default, without the heap.
        """
        other_cell = other_cell or (cell[0], cell[1], 0)
        above = self._samples.get((contender, cell), {})
        below = self._samples.get((other, other_cell), {})
        return Spread.of(above[n].rate / below[n].rate for n in above.keys() & below.keys() if below[n].rate)

    def as_records(self) -> list[dict[str, Any]]:
        """For JSON: one record for each contender and cell, with medians, spreads and the rate of every round."""
        records = []
        for cell in self.cells():
            for name in self.contenders(cell):
                record: dict[str, Any] = {
                    "contender": name,
                    "workload": cell[0],
                    "in_flight": cell[1],
                    "heap_bytes": cell[2],
                    "rates": [round(sample.rate, 1) for _, sample in sorted(self._samples[name, cell].items())],
                }
                for figure in FIGURES:
                    if spread := self.spread(name, cell, figure):
                        record[figure] = spread.as_fields()
                if ratio := self.ratio(name, cell):
                    record["ratio_to_floor"] = ratio.as_fields()
                records.append(record)
        return records
