"""Deadlines of a worker, by a clock that the test turns."""

import pytest

from aiocmdpool.standalone.loop import timers
from aiocmdpool.standalone.loop.timers import Timers


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timers, "monotonic", clock)
    return clock


def test_without_timers_there_is_nothing_to_wait_for(clock):
    assert Timers().wait() == -1.0
    Timers().fire()


def test_timers_fire_in_the_order_in_which_they_are_due(clock):
    due, fired = Timers(), []
    for seconds in (3.0, 1.0, 2.0):
        due.add(seconds, lambda seconds=seconds: fired.append(seconds))
    assert due.wait() == 1.0
    clock.now += 2.5
    assert due.wait() == 0.0
    due.fire()
    assert fired == [1.0, 2.0]
    assert due.wait() == 0.5
    clock.now += 0.5
    due.fire()
    assert fired == [1.0, 2.0, 3.0]
    assert due.wait() == -1.0


def test_timers_due_at_the_same_moment_fire_in_the_order_of_their_making(clock):
    due, fired = Timers(), []
    for number in range(20):
        due.add(1.0, lambda number=number: fired.append(number))
    clock.now += 1.0
    due.fire()
    assert fired == list(range(20))


def test_a_timer_fires_once(clock):
    due, fired = Timers(), []
    due.add(1.0, lambda: fired.append(1))
    clock.now += 5.0
    due.fire()
    due.fire()
    assert fired == [1]


def test_a_timer_does_not_fire_early(clock):
    due, fired = Timers(), []
    due.add(1.0, lambda: fired.append(1))
    clock.now += 0.999
    due.fire()
    assert fired == []


def test_a_cancelled_timer_neither_fires_nor_is_waited_for(clock):
    due, fired = Timers(), []
    due.add(1.0, lambda: fired.append("cancelled")).cancel()
    due.add(2.0, lambda: fired.append("kept"))
    assert due.wait() == 2.0
    clock.now += 3.0
    due.fire()
    assert fired == ["kept"]


def test_a_timer_that_another_one_cancels_when_both_are_due_does_not_fire(clock):
    due, fired = Timers(), []
    due.add(1.0, lambda: second.cancel())
    second = due.add(1.0, lambda: fired.append("second"))
    clock.now += 1.0
    due.fire()
    assert fired == []


def test_a_timer_may_add_timers(clock):
    due, fired = Timers(), []
    due.add(1.0, lambda: due.add(1.0, lambda: fired.append("later")))
    clock.now += 1.0
    due.fire()
    assert fired == []
    assert due.wait() == 1.0
    clock.now += 1.0
    due.fire()
    assert fired == ["later"]


def test_cancelled_timers_do_not_pile_up(clock):
    """Nearly every command has a deadline, and nearly none reaches it."""
    due, fired = Timers(), []
    kept = [due.add(50.0, lambda number=number: fired.append(number)) for number in range(100)]
    for _ in range(20_000):
        due.add(3600.0, lambda: fired.append("cancelled")).cancel()
    assert len(due._heap) < 1000
    clock.now += 4000.0
    due.fire()
    assert fired == list(range(len(kept)))


@pytest.mark.parametrize("seconds", [3e6, 1e9, 1e300])
def test_a_far_deadline_is_no_longer_a_wait_than_the_system_takes(clock, seconds):
    """epoll(7) and poll(2) count milliseconds in an int: 24.8 days."""
    due = Timers()
    due.add(seconds, lambda: None)
    assert 0 < due.wait() < 2**31 / 1000
    assert due.wait() <= seconds
