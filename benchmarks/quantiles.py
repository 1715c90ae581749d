"""The little statistics that is needed: medians with their spread, and quantiles."""

import dataclasses
import statistics
from collections.abc import Iterable, Sequence


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which that share of an ordered, non-empty sequence lies (nearest rank)."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclasses.dataclass(frozen=True, slots=True)
class Spread:
    """A figure from several rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread | None":
        """Of some values; `None` if there are none."""
        kept = list(values)
        return cls(statistics.median(kept), min(kept), max(kept)) if kept else None

    def as_fields(self) -> dict[str, float]:
        """For JSON, to five digits."""
        return {name: float(f"{value:.5g}") for name, value in dataclasses.asdict(self).items()}
