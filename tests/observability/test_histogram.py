"""Histograms: whatever is recorded, the figures are those of the values, within the width of a bucket."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiocmdpool.observability.histogram import BOUNDS, STEPS, LatencyRecorder

IN_RANGE = st.floats(BOUNDS[0], BOUNDS[-1])
ANY = st.floats(0, 1e9)
ERROR = 2 ** (0.5 / STEPS)  # the middle of a bucket is at most that far from its bounds

quick = settings(deadline=None, max_examples=200, derandomize=True, database=None)


def histogram(values):
    recorder = LatencyRecorder()
    for value in values:
        recorder.record(value)
    return recorder.snapshot()


def nearest_rank(values, share):
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


@quick
@given(values=st.lists(ANY, min_size=1, max_size=200))
def test_what_is_exact(values):
    seen = histogram(values)
    assert seen.count == len(values)
    assert seen.total == pytest.approx(math.fsum(values))
    assert seen.mean == pytest.approx(math.fsum(values) / len(values))
    assert (seen.shortest, seen.longest) == (min(values), max(values))


@quick
@given(values=st.lists(IN_RANGE, min_size=1, max_size=200), share=st.floats(0, 1))
def test_a_quantile_is_within_half_a_bucket(values, share):
    true, seen = nearest_rank(values, share), histogram(values).quantile(share)
    assert true / ERROR * (1 - 1e-9) <= seen <= true * ERROR * (1 + 1e-9)


@quick
@given(values=st.lists(ANY, min_size=1, max_size=100), shares=st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_quantiles_ascend_between_the_extremes(values, shares):
    seen = histogram(values)
    quantiles = [seen.quantile(share) for share in sorted(shares)]
    assert quantiles == sorted(quantiles)
    assert all(seen.shortest <= quantile <= seen.longest for quantile in quantiles)
    assert seen.p50 <= seen.p95 <= seen.p99


@quick
@given(value=ANY, times=st.integers(1, 5))
def test_one_value_is_itself(value, times):
    seen = histogram([value] * times)
    assert seen.p50 == seen.p99 == value


@quick
@given(values=st.lists(ANY, max_size=100), every=st.sampled_from([1, 4, STEPS]))
def test_cumulative_counts_are_those_of_the_values(values, every):
    for bound, count in histogram(values).cumulative(every):
        assert count == sum(value <= bound for value in values)


@quick
@given(values=st.lists(ANY, max_size=300))
def test_memory_is_bounded(values):
    assert len(histogram(values).counts) == len(BOUNDS) + 1


@pytest.mark.parametrize("odd", [-1.0, math.nan, math.inf, -math.inf])
def test_what_is_no_duration_does_no_harm(odd):
    seen = histogram([odd, 2.0])
    assert (seen.count, seen.total, seen.shortest, seen.longest) == (2, 2.0, 0.0, 2.0)


def test_nothing_recorded():
    seen = histogram([])
    assert (seen.count, seen.total, seen.mean, seen.shortest, seen.longest) == (0, 0.0, 0.0, 0.0, 0.0)
    assert seen.p50 == seen.p95 == seen.p99 == 0.0


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan, 99])
def test_a_share_is_from_0_to_1(share):
    with pytest.raises(ValueError, match="share"):
        histogram([1.0]).quantile(share)


def test_bounds_double_exactly():
    """So that coarser buckets have bounds that are floats without an error."""
    assert BOUNDS[::STEPS] == tuple(2.0**power for power in range(-20, 21))
    assert list(BOUNDS) == sorted(set(BOUNDS))


def test_a_snapshot_does_not_change():
    recorder = LatencyRecorder()
    before = recorder.snapshot()
    recorder.record(1.0)
    assert before.count == 0
