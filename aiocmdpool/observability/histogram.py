"""Latencies in bounded memory: counts in buckets whose bounds grow by a constant factor, so that the relative error is
the same for microseconds and for hours."""

import dataclasses
import math
from bisect import bisect_left
from collections.abc import Iterator

STEPS = 8  # buckets to a doubling: a quantile is within 4.5 % of the true one
_SHORTEST, _LONGEST = -20, 20  # powers of two: one microsecond, twelve days

BOUNDS = tuple(2.0 ** (step / STEPS) for step in range(_SHORTEST * STEPS, _LONGEST * STEPS + 1))
"""Upper bounds of the buckets in seconds, each included in its own; one bucket more holds what is longer."""


@dataclasses.dataclass(frozen=True, slots=True)
class LatencyHistogram:
    """How long something took, many times: a snapshot. All durations are seconds."""

    counts: tuple[int, ...]
    """How often in each bucket of `BOUNDS`, and once more for what was longer."""
    total: float
    """The sum of all."""
    shortest: float
    """Exact, as is `longest`; both 0 where there was none."""
    longest: float

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """The mean; 0 where there was none."""
        return self.total / self.count if self.count else 0.0

    @property
    def p50(self) -> float:
        """The median; see `quantile`."""
        return self.quantile(0.50)

    @property
    def p95(self) -> float:
        """What 95 of 100 did not exceed; see `quantile`."""
        return self.quantile(0.95)

    @property
    def p99(self) -> float:
        """What 99 of 100 did not exceed; see `quantile`."""
        return self.quantile(0.99)

    def quantile(self, share: float) -> float:
        """What that share of all did not exceed (nearest rank), within 4.5 % if between a microsecond and twelve days.

        Args:
            share: From 0 to 1.

        Returns:
            Seconds; 0 where there was none.

        Raises:
            ValueError: `share` is something else.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share: {share!r} is not from 0 to 1")
        wanted = max(1, math.ceil(share * self.count))
        seen = 0
        for bucket, count in enumerate(self.counts):
            seen += count
            if seen >= wanted:
                return min(max(_middle(bucket), self.shortest), self.longest)
        return 0.0

    def cumulative(self, every: int = STEPS) -> Iterator[tuple[float, int]]:
        """Coarser buckets for others: upper bound, and how many did not exceed it.

        Args:
            every: How many of ours make one of theirs; by default theirs double.
        """
        seen = 0
        for bucket, bound in enumerate(BOUNDS):
            seen += self.counts[bucket]
            if bucket % every == 0:
                yield bound, seen


class LatencyRecorder:
    """What is being counted. One writer; a snapshot may be taken in any thread."""

    __slots__ = ("_counts", "_longest", "_shortest", "_total")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._total = self._longest = 0.0
        self._shortest = math.inf

    def record(self, seconds: float) -> None:
        """Count one. What is no duration, which an executor of somebody else's may report, counts as none at all."""
        if not 0.0 <= seconds < math.inf:
            seconds = 0.0
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self._total += seconds
        if seconds > self._longest:
            self._longest = seconds
        if seconds < self._shortest:
            self._shortest = seconds

    def snapshot(self) -> LatencyHistogram:
        """The counts now."""
        counts = tuple(self._counts)
        return LatencyHistogram(counts, self._total, self._shortest if any(counts) else 0.0, self._longest)


def _middle(bucket: int) -> float:
    """What stands for a bucket: its geometric middle, equally far from either bound in proportion."""
    if bucket == 0:
        return 0.0  # everything shorter: the shortest is put in its place
    if bucket == len(BOUNDS):
        return math.inf  # everything longer: the longest
    return math.sqrt(BOUNDS[bucket - 1] * BOUNDS[bucket])
