"""The circuits of a breaker, without any loop: what each outcome changes, told times that are made up."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiocmdpool.policies import CircuitState
from aiocmdpool.policies.circuits import Circuits

CLOSED, OPEN, HALF_OPEN = CircuitState


def outcome(circuits, now, failed, key="k"):
    entry = circuits.enter(key, now)
    assert entry is not None
    return circuits.leave(key, entry, now, failed, "why")


def state(circuits, now, key="k"):
    return circuits.get(key, now).state(now)


@pytest.fixture
def circuits():
    return Circuits(failures=3, reset_after=10, forget_after=100)


@pytest.fixture
def opened(circuits):
    assert [outcome(circuits, now, True) for now in (0, 1, 2)] == [None, None, OPEN]
    return circuits


def test_failures_in_a_row_open_it(opened):
    assert state(opened, 11.9) is OPEN
    assert opened.enter("k", 11.9) is None
    assert state(opened, 12) is HALF_OPEN
    assert opened.get("k", 11).why == "why"


def test_a_success_in_between_starts_the_row_anew(circuits):
    assert [outcome(circuits, 0, failed) for failed in (True, True, False, True, True)] == [None] * 5
    assert outcome(circuits, 0, True) is OPEN


def test_what_says_nothing_changes_nothing(circuits):
    assert [outcome(circuits, 0, failed) for failed in (True, None, True, None)] == [None] * 4
    assert outcome(circuits, 0, True) is OPEN


def test_half_open_lets_one_try(opened):
    assert opened.enter("k", 12) is not None
    assert opened.enter("k", 12) is None
    assert opened.enter("k", 5000) is None


def test_a_trial_that_succeeds_closes_it(opened):
    assert outcome(opened, 12, False) is CLOSED
    assert [outcome(opened, 13, True) for _ in range(3)] == [None, None, OPEN]


def test_a_trial_that_fails_opens_it_for_as_long_again(opened):
    assert outcome(opened, 12, True) is OPEN
    assert opened.enter("k", 21.9) is None
    assert opened.enter("k", 22) is not None


def test_a_trial_that_says_nothing_lets_the_next_one_try(opened):
    assert outcome(opened, 12, None) is None
    assert state(opened, 12) is HALF_OPEN
    assert outcome(opened, 12, False) is CLOSED


@pytest.mark.parametrize("failed", [True, False])
def test_what_started_before_it_opened_is_old_news(circuits, failed):
    early = [circuits.enter("k", 0) for _ in range(6)]
    assert [circuits.leave("k", entry, 1, True) for entry in early[:3]] == [None, None, OPEN]
    assert circuits.leave("k", early[3], 2, failed) is None
    assert state(circuits, 2) is OPEN
    trial = circuits.enter("k", 12)
    assert circuits.leave("k", early[4], 12, failed) is None
    assert circuits.enter("k", 12) is None
    assert circuits.leave("k", trial, 13, False) is CLOSED
    outcome(circuits, 13, True)
    outcome(circuits, 13, True)
    assert circuits.leave("k", early[5], 13, failed) is None
    assert circuits.get("k", 13).failures == 2


def test_keys_know_nothing_of_each_other(opened):
    assert state(opened, 2, "other") is CLOSED
    assert opened.count_open() == 1


def test_failures_long_ago_do_not_count(circuits):
    outcome(circuits, 0, True)
    outcome(circuits, 0, True)
    assert outcome(circuits, 100.1, True) is None
    assert outcome(circuits, 100.1, True) is None
    assert outcome(circuits, 200, True) is OPEN


def test_an_open_one_that_nobody_has_tried_for_long_is_as_good_as_new(circuits):
    for key in range(5):
        outcome(circuits, 0, True, key)  # so that others are dropped before it
    opened = circuits
    for now in (0, 1, 2):
        outcome(opened, now, True)
    assert state(opened, 112) is HALF_OPEN
    assert state(opened, 112.1) is CLOSED
    assert [outcome(opened, 113, True) for _ in range(3)] == [None, None, OPEN], "it must count again"


def test_successes_are_not_remembered(circuits):
    for key in range(1000):
        outcome(circuits, 0, False, key)
    assert len(circuits) == 0


def test_keys_that_failed_are_forgotten_even_beside_a_trial_without_end(opened):
    assert opened.enter("k", 12) is not None
    for number in range(10_000):
        outcome(opened, 20 + number, True, number)
    assert len(opened) <= 110
    assert opened.enter("k", 20_000) is None, "the trial itself must not be"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["enter", "leave"]),
            st.sampled_from("ab"),
            st.sampled_from([True, False, None]),
            st.floats(0, 40),
        ),
        max_size=80,
    )
)
@settings(deadline=None)
def test_whatever_happens_there_is_one_trial_at_most_and_no_dead_end(steps):
    circuits, now, inside = Circuits(2, 10, 100), 0.0, {"a": [], "b": []}
    for what, key, failed, later in steps:
        now += later
        before = state(circuits, now, key)
        if what == "enter":
            entry = circuits.enter(key, now)
            tries = circuits.get(key, now).trial
            assert (entry is None) is (before is OPEN or (before is HALF_OPEN and tries != entry))
            if entry is not None:
                inside[key].append(entry)
        elif inside[key]:
            entry = inside[key].pop(0)
            is_trial = circuits.get(key, now).trial == entry
            changed = circuits.leave(key, entry, now, failed)
            assert changed is None or failed is not None
            if is_trial and failed is not None:
                assert changed is (OPEN if failed else CLOSED)
            elif before is not CLOSED:
                assert changed is None
    for key, entries in inside.items():
        for entry in entries:
            circuits.leave(key, entry, now, None)
        assert circuits.enter(key, now + 10) is not None
