"""What is kept of a stream in this process: its limits, and that it is held once."""

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocmdpool.commands.command import OutputPolicy
from aiocmdpool.system import capture, output_budget
from aiocmdpool.system.capture import Capture, rotate
from aiocmdpool.system.output_budget import Allowance, OutputBudget

INLINE = 10  # bytes
SOURCE = random.Random(1).randbytes(400)
MIB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def small_figures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture, "INLINE", INLINE)
        yield


@given(st.integers(0, 60), st.data(), st.sampled_from([1, 2, 3, 7, 100]))
def test_rotating_puts_the_front_behind_the_rest(size, data, at_once):
    middle = data.draw(st.integers(0, size))
    whole = bytearray(SOURCE[:size])
    with pytest.MonkeyPatch.context() as patch, memoryview(whole) as view:
        patch.setattr(capture, "AT_ONCE", at_once)
        rotate(view, middle)
    assert whole == SOURCE[middle:size] + SOURCE[:middle]


@given(
    st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=8),
    st.none() | st.integers(0, 40),
    st.sampled_from(OutputPolicy),
    st.none() | st.integers(0, 30),
)
def test_what_is_kept_is_what_its_limit_and_its_allowance_allow(pieces, limit, policy, total):
    budget = OutputBudget(total)
    with Allowance(budget) as allowance:
        stream = Capture(limit, policy, allowance)
        written, fits = b"", True
        for size, looks in pieces:
            piece = SOURCE[len(written) :][:size]
            written += piece
            fits = stream.add(piece) and fits
            if looks:
                stream.result()  # at any time
        most = min(
            len(SOURCE) if limit is None else limit,
            len(SOURCE) if total is None else INLINE + total,
        )
        kept = written[max(0, len(written) - most) :] if policy is OutputPolicy.KEEP_TAIL else written[:most]
        assert stream.result() == kept
        assert stream.truncated == (len(written) > most)
        assert fits == (len(written) <= most or policy is not OutputPolicy.FAIL)
        assert budget.held == max(0, min(len(written), most) - INLINE)
    assert budget.held == 0


@pytest.mark.parametrize("policy", list(OutputPolicy))
def test_it_is_held_once(policy):
    limit, chunk = 32 * MIB, bytes(65536)
    stream = Capture(limit, policy)
    tracemalloc.start()
    try:
        for _ in range(limit // len(chunk) + 100):
            stream.add(chunk)
        assert len(stream.result()) == limit
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.25 * limit  # a buffer that grows asks for an eighth more, and does not touch it


def test_the_default_is_asked_for_when_there_is_something_to_hold(monkeypatch):
    asked = []
    monkeypatch.setattr(output_budget, "default_output_budget", lambda: asked.append(1) or 100)
    budget = OutputBudget("auto")
    assert budget.has_headroom()
    assert not asked
    assert budget.take(150) == 100
    assert budget.take(1) == 0
    assert not budget.has_headroom()
    budget.give_back(100)
    assert budget.has_headroom()
    assert len(asked) == 1
