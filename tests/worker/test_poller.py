"""The poller, on `epoll` and on `poll`."""

import os
import select
import time
from collections.abc import Iterator

import pytest

from aiocmdpool.standalone.loop.poller import READ, WRITE, Poller


@pytest.fixture(params=["epoll", "poll"])
def poller(request, monkeypatch) -> Iterator[Poller]:
    if request.param == "epoll":
        if not hasattr(select, "epoll"):
            pytest.skip("no epoll here")
    else:
        monkeypatch.delattr(select, "epoll", raising=False)
    poller = Poller()
    yield poller
    if request.param == "epoll":
        poller._poll.close()


@pytest.fixture
def pipe():
    """Call it for a pipe whose read end is readable (or not); what is still open at the end is closed."""
    opened = []

    def make(data: bytes = b"x") -> tuple[int, int]:
        ends = os.pipe()
        opened.extend((fd, os.fstat(fd).st_ino) for fd in ends)
        if data:
            os.write(ends[1], data)
        return ends

    yield make
    for fd, inode in opened:
        try:
            if os.fstat(fd).st_ino == inode:
                os.close(fd)
        except OSError:
            continue


def test_a_handler_hears_of_what_is_readable(poller, pipe):
    heard = []
    read_end, _ = pipe()
    silent, _ = pipe(b"")
    poller.watch(read_end, lambda events: heard.append(("read", events & READ)))
    poller.watch(silent, lambda events: heard.append("silent"))
    poller.dispatch(1.0)
    assert heard == [("read", READ)]
    poller.dispatch(0)  # level-triggered: it is still there
    assert len(heard) == 2


def test_a_handler_hears_of_what_is_writable(poller, pipe):
    heard = []
    _, write_end = pipe(b"")
    poller.watch(write_end, heard.append, WRITE)
    poller.dispatch(1.0)
    assert heard
    assert heard[0] & WRITE


def test_a_handler_hears_of_the_end_of_a_pipe(poller, pipe):
    heard = []
    read_end, write_end = pipe(b"")
    poller.watch(read_end, heard.append)
    os.close(write_end)
    poller.dispatch(1.0)
    assert heard


def test_a_wait_for_ever_ends_with_an_event(poller, pipe):
    heard = []
    read_end, _ = pipe()
    poller.watch(read_end, heard.append)
    poller.dispatch(-1.0)
    assert heard


def test_a_wait_is_as_long_as_it_was_asked_to_be(poller, pipe):
    read_end, _ = pipe(b"")
    poller.watch(read_end, lambda _: None)
    started = time.monotonic()
    poller.dispatch(0.05)
    assert 0.04 < time.monotonic() - started < 5

    def look() -> float:
        started = time.monotonic()
        poller.dispatch(0)
        return time.monotonic() - started

    assert min(look() for _ in range(20)) < 0.04  # another process may have the CPU meanwhile, but not each time


def test_watching_again_changes_events_and_handler(poller, pipe):
    heard = []
    read_end, write_end = os.pipe()
    poller.watch(write_end, lambda _: heard.append("first"), READ)
    poller.watch(write_end, lambda _: heard.append("second"), WRITE)
    poller.dispatch(1.0)
    assert heard == ["second"]
    poller.forget(write_end)
    os.close(read_end)
    os.close(write_end)


def test_what_is_forgotten_is_not_heard_of_and_may_be_watched_again(poller, pipe):
    heard = []
    read_end, _ = pipe()
    poller.watch(read_end, lambda _: heard.append(1))
    poller.forget(read_end)
    poller.dispatch(0)
    assert heard == []
    poller.forget(read_end)  # harmless
    poller.watch(read_end, lambda _: heard.append(2))
    poller.dispatch(1.0)
    assert heard == [2]


def test_what_a_handler_forgets_is_not_heard_of_in_the_same_batch(poller, pipe):
    heard = []
    first, _ = pipe()
    second, _ = pipe()

    def forget_the_other(me: int, other: int) -> None:
        heard.append(me)
        if other in watched:
            watched.remove(other)
            poller.forget(other)
            os.close(other)

    watched = {first, second}
    poller.watch(first, lambda _: forget_the_other(first, second))
    poller.watch(second, lambda _: forget_the_other(second, first))
    poller.dispatch(1.0)
    assert len(heard) == 1
    poller.dispatch(0)
    assert len(heard) == 2
    assert heard[0] == heard[1]


def test_a_new_descriptor_with_the_number_of_one_closed_in_the_same_batch_hears_only_of_itself(poller, pipe):
    heard, reused = [], []
    pairs = [pipe(), pipe()]
    (first, _), (second, _) = pairs

    def close_the_other(other: int) -> None:
        heard.append("old")
        poller.forget(other)
        os.close(other)
        new_end, keep = os.pipe()  # the lowest free number: that of the other
        reused.extend((new_end, keep))

    poller.watch(first, lambda _: close_the_other(second))
    poller.watch(second, lambda _: close_the_other(first))
    poller.dispatch(1.0)
    new_end, keep = reused
    assert heard == ["old"]
    assert new_end in (first, second)
    poller.forget(first if new_end == second else second)
    poller.watch(new_end, lambda _: heard.append("new"))
    poller.dispatch(0)
    assert heard == ["old"]
    os.write(keep, b"x")
    poller.dispatch(1.0)
    assert heard == ["old", "new"]
    os.close(new_end)
    os.close(keep)


def test_many_descriptors_are_heard_of_in_one_turn(poller, pipe):
    heard = []
    ends = [pipe()[0] for _ in range(100)]
    for fd in ends:
        poller.watch(fd, lambda _, fd=fd: heard.append(fd))
    poller.dispatch(1.0)
    assert sorted(heard) == sorted(ends)


def test_what_is_forgotten_stays_forgotten_while_somebody_holds_a_copy(poller, pipe):
    """A child has one between `fork` and `exec`: without a word, epoll keeps what is closed here for its sake."""
    heard = []
    read_end, write_end = pipe(b"")
    poller.watch(read_end, lambda _: heard.append("old"))
    copy = os.dup(read_end)
    poller.forget(read_end)
    os.close(read_end)
    new_end, _ = pipe(b"")
    assert new_end == read_end  # the lowest free number
    poller.watch(new_end, lambda _: heard.append("new"))
    os.write(write_end, b"x")
    poller.dispatch(0.05)
    assert heard == []
    os.close(copy)


def test_what_a_handler_raises_is_its_owners_alone(monkeypatch, pipe):
    failed, heard = [], []
    poller = Poller(lambda owner, error: failed.append((owner, str(error))))
    ends = [pipe()[0] for _ in range(3)]

    def fail(_: int) -> None:
        raise RuntimeError("as the test wants")

    poller.watch(ends[0], fail, owner="one")
    poller.watch(ends[1], heard.append)
    poller.watch(ends[2], fail, owner="two")
    poller.dispatch(1.0)
    assert sorted(failed) == [("one", "as the test wants"), ("two", "as the test wants")]
    assert len(heard) == 1
    poller.watch(ends[0], fail)
    with pytest.raises(RuntimeError):
        poller.dispatch(1.0)
