"""`LatencyHistogram` and `LatencyRecorder`: distributions of durations in bounded memory.

Durations are counted in buckets whose bounds grow by a constant factor, so that the relative error is the same for
microseconds and for hours.
"""

import dataclasses
import math
from bisect import bisect_left
from collections.abc import Iterator

STEPS = 8  # buckets per doubling: a quantile is within 4.5 % of the true one
_SHORTEST, _LONGEST = -20, 20  # powers of two, in seconds: one microsecond, twelve days

BOUNDS = tuple(2.0 ** (step / STEPS) for step in range(_SHORTEST * STEPS, _LONGEST * STEPS + 1))
"""Upper bounds of the buckets in seconds, inclusive; one more bucket holds everything longer."""


@dataclasses.dataclass(frozen=True, slots=True)
class LatencyHistogram:
    """Distribution of many durations at one moment. All durations are in seconds."""

    counts: tuple[int, ...]
    """Number of durations in each bucket of `BOUNDS`, and in the one for everything longer."""
    total: float
    """Sum of all durations, in seconds."""
    shortest: float
    """Shortest duration, exact like `longest`; both 0 if there is none."""
    longest: float

    @property
    def count(self) -> int:
        """Return the number of recorded durations."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Return the mean duration in seconds; 0 if there is none."""
        return self.total / self.count if self.count else 0.0

    @property
    def p50(self) -> float:
        """Return the median in seconds; see `quantile`."""
        return self.quantile(0.50)

    @property
    def p95(self) -> float:
        """Return the duration that 95 % do not exceed, in seconds; see `quantile`."""
        return self.quantile(0.95)

    @property
    def p99(self) -> float:
        """Return the duration that 99 % do not exceed, in seconds; see `quantile`."""
        return self.quantile(0.99)

    def quantile(self, share: float) -> float:
        """Return the duration that the fraction `share` does not exceed (nearest rank), within 4.5 %.

        Args:
            share: Fraction of all durations, from 0 to 1.

        Returns:
            Seconds; 0 if there is none. Exact to 4.5 % between a microsecond and twelve days.

        Raises:
            ValueError: `share` is not from 0 to 1.
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
        """Yield coarser buckets for export: the upper bound, and the number of durations up to it.

        Args:
            every: Number of buckets to join into one; by default, bounds double.
        """
        seen = 0
        for bucket, bound in enumerate(BOUNDS):
            seen += self.counts[bucket]
            if bucket % every == 0:
                yield bound, seen


class LatencyRecorder:
    """Counts durations. It has one writer; a snapshot may be taken in any thread."""

    __slots__ = ("_counts", "_longest", "_shortest", "_total")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._total = self._longest = 0.0
        self._shortest = math.inf

    def record(self, seconds: float) -> None:
        """Count a duration in seconds. An invalid one, which a user's executor may report, counts as 0."""
        if not 0.0 <= seconds < math.inf:
            seconds = 0.0
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self._total += seconds
        if seconds > self._longest:
            self._longest = seconds
        if seconds < self._shortest:
            self._shortest = seconds

    def snapshot(self) -> LatencyHistogram:
        """Return a snapshot of the counts."""
        counts = tuple(self._counts)
        return LatencyHistogram(counts, self._total, self._shortest if any(counts) else 0.0, self._longest)


def _middle(bucket: int) -> float:
    """Return the duration that stands for a bucket: its geometric middle, at equal relative distance to both bounds."""
    if bucket == 0:
        return 0.0  # the bucket of everything shorter; `shortest` replaces it
    if bucket == len(BOUNDS):
        return math.inf  # the bucket of everything longer; `longest` replaces it
    return math.sqrt(BOUNDS[bucket - 1] * BOUNDS[bucket])
