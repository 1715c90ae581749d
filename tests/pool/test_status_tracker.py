"""`TaskStatusTracker`: statuses by id, and how much of the past it remembers."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from aiocmdpool import TaskStatus, TaskStatusTracker

PENDING, RUNNING, COMPLETED, FAILED, CANCELLED = TaskStatus


def test_a_status_knows_whether_it_is_an_end():
    assert [status.finished for status in TaskStatus] == [False, False, True, True, True]


def test_a_status_shows_its_name():
    assert repr(PENDING) == "TaskStatus.PENDING"
    assert TaskStatus("failed") is FAILED


def test_a_task_begins_pending():
    tracker = TaskStatusTracker()
    tracker.register(1)
    assert tracker.get(1) is PENDING


def test_the_last_status_counts():
    tracker = TaskStatusTracker()
    for status in (PENDING, RUNNING, COMPLETED):
        tracker.register(1, status)
        assert tracker.get(1) is status
    assert len(tracker) == 1


def test_an_unknown_task_has_no_status():
    tracker = TaskStatusTracker()
    assert tracker.get(1) is None
    assert tracker.remove(1) is None


def test_a_removed_task_is_forgotten():
    tracker = TaskStatusTracker()
    tracker.register(1, RUNNING)
    tracker.register(2, FAILED)
    assert (tracker.remove(1), tracker.remove(2)) == (RUNNING, FAILED)
    assert (tracker.get(1), tracker.remove(2), len(tracker)) == (None, None, 0)


def test_a_removed_task_makes_room_in_the_history():
    tracker = TaskStatusTracker(history=2)
    for task_id in (1, 2):
        tracker.register(task_id, COMPLETED)
    tracker.remove(2)
    tracker.register(3, COMPLETED)
    assert tracker.all() == {1: COMPLETED, 3: COMPLETED}


def test_all_is_a_copy():
    tracker = TaskStatusTracker()
    tracker.register(1, RUNNING)
    everything = tracker.all()
    assert everything == {1: RUNNING}
    everything.clear()
    assert tracker.get(1) is RUNNING


def test_counts_name_every_status():
    tracker = TaskStatusTracker()
    assert tracker.counts() == dict.fromkeys(TaskStatus, 0)
    for task_id, status in enumerate([PENDING, PENDING, FAILED, CANCELLED, CANCELLED, CANCELLED]):
        tracker.register(task_id, status)
    assert tracker.counts() == {PENDING: 2, RUNNING: 0, COMPLETED: 0, FAILED: 1, CANCELLED: 3}


def test_clear_forgets_the_finished_only():
    tracker = TaskStatusTracker()
    for task_id, status in enumerate(TaskStatus):
        tracker.register(task_id, status)
    tracker.clear()
    assert tracker.all() == {0: PENDING, 1: RUNNING}


def test_finished_tasks_are_forgotten_in_the_order_they_finished():
    tracker = TaskStatusTracker(history=2)
    for task_id in range(4):
        tracker.register(task_id)
    for task_id in (3, 0, 2):
        tracker.register(task_id, COMPLETED)
    assert tracker.all() == {0: COMPLETED, 1: PENDING, 2: COMPLETED}


def test_unfinished_tasks_are_never_forgotten():
    tracker = TaskStatusTracker(history=0)
    for task_id in range(5000):
        tracker.register(task_id, RUNNING if task_id % 2 else PENDING)
    assert len(tracker) == 5000


def test_without_a_history_a_finished_task_is_forgotten_at_once():
    tracker = TaskStatusTracker(history=0)
    tracker.register(1)
    tracker.register(1, COMPLETED)
    assert (tracker.get(1), len(tracker)) == (None, 0)


def test_a_finished_task_that_is_noted_again_counts_once():
    tracker = TaskStatusTracker(history=2)
    for status in (COMPLETED, FAILED, FAILED):
        tracker.register(1, status)
    tracker.register(2, COMPLETED)
    assert tracker.all() == {1: FAILED, 2: COMPLETED}


def test_a_task_that_finishes_twice_counts_once():
    tracker = TaskStatusTracker(history=1)
    for status in (FAILED, PENDING, COMPLETED):
        tracker.register(1, status)
    assert tracker.get(1) is COMPLETED


def test_repr_shows_the_counts():
    tracker = TaskStatusTracker()
    assert repr(tracker) == "<TaskStatusTracker empty>"
    for task_id, status in enumerate([PENDING, RUNNING, FAILED, FAILED]):
        tracker.register(task_id, status)
    assert repr(tracker) == "<TaskStatusTracker 1 pending, 1 running, 2 failed>"


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    history=st.integers(0, 4),
    steps=st.lists(
        st.tuples(st.sampled_from(["begin", "run", "end", "end", "remove", "clear"]), st.integers(0, 20)), max_size=50
    ),
)
def test_it_remembers_what_a_plain_model_does(history, steps):
    """Tasks live once: pending, running, one of the ends."""
    tracker = TaskStatusTracker(history)
    alive, finished, ids = {}, {}, itertools.count()
    for step, number in steps:
        known = [*alive, *finished]
        match step:
            case "begin":
                task_id = next(ids)
                alive[task_id] = PENDING
                tracker.register(task_id)
            case "run" if alive:
                task_id = known[number % len(alive)]
                alive[task_id] = RUNNING
                tracker.register(task_id, RUNNING)
            case "end":
                task_id = known[number % len(alive)] if alive else next(ids)
                alive.pop(task_id, None)
                finished[task_id] = (COMPLETED, FAILED, CANCELLED)[number % 3]
                tracker.register(task_id, finished[task_id])
                for oldest in list(finished)[: max(0, len(finished) - history)]:
                    del finished[oldest]
            case "remove" if known:
                task_id = known[number % len(known)]
                assert tracker.remove(task_id) is (alive.pop(task_id, None) or finished.pop(task_id, None))
            case "clear" if number == 0:
                tracker.clear()
                finished.clear()
        assert tracker.all() == {**alive, **finished}
        assert len(tracker) == len(alive) + len(finished)
        assert sum(tracker.counts().values()) == len(tracker)
