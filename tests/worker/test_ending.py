"""The way of a run to its end: facts and the time in, the next act out."""

import pytest

from aiocmdpool.standalone.ending import (
    ASK,
    ASK_LEFT,
    CLOSE,
    DRAIN_TIMEOUT,
    GIVE_UP,
    HELD_AFTER,
    KILL,
    NOTHING,
    SWEEP,
    SWEEP_EVERY,
    UNKILLABLE_AFTER,
    Ending,
)

GRACE, LEFTOVER_GRACE = 2.0, 0.25


@pytest.fixture
def way() -> Ending:
    return Ending(GRACE, LEFTOVER_GRACE)


def act(way: Ending, now: float, left: int = 0, in_group: int = 0, drained: bool = False) -> int:
    return way.act(now, left, in_group, drained)


def test_a_run_that_goes_on_asks_for_nothing(way):
    assert act(way, 0.0) == act(way, 1e9) == NOTHING
    assert way.wake_at == -1


def test_a_program_that_exits_and_leaves_nothing_is_closed_at_once(way):
    way.exited(1.0)
    assert act(way, 1.0, drained=True) == CLOSE
    assert (way.is_over, way.exited_at, way.was_ended) == (True, 1.0, False)
    assert act(way, 2.0, left=9) == NOTHING  # over is over


def test_a_pipe_that_somebody_holds_is_waited_for_a_moment(way):
    way.exited(1.0)
    assert act(way, 1.0) == NOTHING
    assert way.wake_at == 1.0 + DRAIN_TIMEOUT
    assert act(way, 1.0 + DRAIN_TIMEOUT - 0.01) == NOTHING
    assert act(way, 1.0 + DRAIN_TIMEOUT) == CLOSE


def test_what_is_left_is_asked_and_then_killed(way):
    way.exited(1.0)
    assert act(way, 1.0, left=2) == ASK_LEFT
    assert act(way, 1.1, left=1) == NOTHING
    assert way.wake_at == 1.0 + LEFTOVER_GRACE
    assert act(way, 1.0 + LEFTOVER_GRACE, left=1) == SWEEP
    assert act(way, 1.3, left=1) == SWEEP  # until a look finds nothing
    assert way.wake_at == 1.3 + SWEEP_EVERY
    assert act(way, 1.4, drained=True) == CLOSE


def test_what_is_left_and_cleans_up_is_not_killed(way):
    way.exited(1.0)
    assert act(way, 1.0, left=1) == ASK_LEFT
    assert act(way, 1.1, drained=True) == CLOSE


def test_what_comes_late_is_killed_as_well(way):
    way.exited(1.0)
    assert act(way, 1.0) == NOTHING
    assert act(way, 1.1, left=1) == SWEEP


def test_what_may_stay_is_neither_asked_nor_killed():
    way = Ending(GRACE, LEFTOVER_GRACE, spares=True)
    way.exited(1.0)
    assert act(way, 1.0, left=3, drained=True) == CLOSE


def test_a_program_that_is_ended_is_asked_and_then_killed(way):
    way.end()
    assert act(way, 1.0) == ASK
    assert act(way, 1.0 + GRACE - 0.1) == NOTHING
    assert act(way, 1.0 + GRACE) == KILL
    assert way.wake_at == 1.0 + GRACE + UNKILLABLE_AFTER
    way.exited(3.1)
    assert act(way, 3.1, left=1) == SWEEP  # nobody is asked any more
    assert act(way, 3.2, drained=True) == CLOSE
    assert way.was_ended


def test_the_grace_is_that_of_the_whole_group(way):
    way.end()
    assert act(way, 1.0) == ASK
    way.exited(1.1)
    assert way.in_grace
    assert act(way, 1.1, left=2, in_group=1) == NOTHING
    assert act(way, 1.0 + GRACE, left=2, in_group=1) == SWEEP


def test_what_has_left_the_group_has_no_part_in_its_grace(way):
    way.end()
    assert act(way, 1.0) == ASK
    way.exited(1.1)
    assert act(way, 1.1, left=1, in_group=0) == SWEEP


@pytest.mark.parametrize("exits", [False, True], ids=["the program", "what it left"])
def test_what_cannot_be_killed_has_an_end_all_the_same(way, exits):
    way.end(0.0)
    assert act(way, 1.0) == ASK
    if exits:
        way.exited(1.0)
        assert act(way, 1.0, left=1) == SWEEP
        assert act(way, 1.0 + UNKILLABLE_AFTER - 0.1, left=1) == SWEEP
    else:
        assert act(way, 1.0) == KILL
        assert act(way, 1.0 + UNKILLABLE_AFTER - 0.1) == NOTHING
    assert act(way, 1.0 + UNKILLABLE_AFTER, left=int(exits)) == GIVE_UP
    assert way.is_over


def test_who_never_became_the_program_is_given_no_grace_and_given_up_soon(way):
    way.end(held=True)
    assert act(way, 1.0) == ASK
    assert act(way, 1.0) == KILL
    assert act(way, 1.0 + HELD_AFTER) == GIVE_UP


def test_a_hurry_ends_a_grace(way):
    way.end()
    assert act(way, 1.0) == ASK
    way.hurry()
    assert act(way, 1.1) == KILL


def test_the_first_reason_counts(way):
    way.exited(1.0)
    way.end()
    assert not way.was_ended
    assert act(way, 1.0, drained=True) == CLOSE
    other = Ending(GRACE, LEFTOVER_GRACE)
    other.end(1.0)
    other.end(9.0)
    assert act(other, 0.0) == ASK
    assert other.wake_at == 1.0
