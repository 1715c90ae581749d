"""`BlockingLoop`: what a thread waits with."""

import os
import threading
import time

import pytest

from aiocmdpool.loops.blocking_loop import BlockingLoop

pytestmark = pytest.mark.slow


@pytest.fixture
def loop():
    loop = BlockingLoop()
    yield loop
    loop.close()


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def test_a_descriptor_that_can_be_read_is_told_until_it_is_forgotten(loop, pipe):
    heard = []
    loop.add_reader(pipe[0], lambda: heard.append(1))
    os.write(pipe[1], b"x")
    loop.run_until(lambda: len(heard) == 3)
    loop.remove_reader(pipe[0])
    loop.remove_reader(pipe[0])
    loop.run_until(lambda: False, 0.01)
    assert heard == [1] * 3


def test_a_descriptor_that_can_be_written_is_told(loop, pipe):
    heard = []
    loop.add_writer(pipe[1], lambda: heard.append(1))
    loop.run_until(lambda: bool(heard))
    loop.remove_writer(pipe[1])


def test_a_callback_may_forget_another_descriptor_of_the_same_turn(loop, pipe):
    heard = []
    others = os.pipe()

    def forget_both() -> None:
        heard.append(1)
        for fd in (pipe[0], others[0]):
            loop.remove_reader(fd)

    for reader, writer in (pipe, others):
        os.write(writer, b"x")
        loop.add_reader(reader, forget_both)
    loop.run_until(lambda: bool(heard))
    for fd in others:
        os.close(fd)
    assert heard == [1]


def test_deadlines_are_kept_in_their_order_and_never_early(loop):
    seen = []
    began = time.monotonic()
    for delay in (0.03, 0.01, 0.02, 0.0):
        loop.call_later(delay, lambda delay=delay: seen.append((delay, time.monotonic() - began)))
    loop.call_later(0.015, lambda: seen.append("cancelled")).cancel()
    loop.run_until(lambda: len(seen) == 4)
    assert [delay for delay, _ in seen] == [0.0, 0.01, 0.02, 0.03]
    assert all(at >= delay for delay, at in seen)


def test_waiting_is_over_after_its_seconds(loop):
    began = time.monotonic()
    loop.run_until(lambda: False, 0.02)
    assert time.monotonic() - began >= 0.02
    loop.run_until(lambda: False, 0)
    loop.run_until(lambda: False, -1)


def test_other_threads_wake_it_up_and_are_all_heard(loop):
    """More often than fits into the pipe behind it, and before anybody listens."""
    heard: list[int] = []
    calls = 100_000

    def call() -> None:
        for number in range(calls):
            loop.call_soon_threadsafe(lambda number=number: heard.append(number))

    call()
    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    loop.run_until(lambda: len(heard) == 3 * calls)
    for thread in threads:
        thread.join()
    assert heard[:calls] == list(range(calls))


def test_a_closed_one_refuses_calls_and_touches_no_descriptor(loop):
    loop.close()
    loop.close()
    mine = os.pipe()  # has the numbers that were its own
    with pytest.raises(RuntimeError):
        loop.call_soon_threadsafe(lambda: None)
    os.set_blocking(mine[0], False)
    with pytest.raises(BlockingIOError):
        os.read(mine[0], 1)
    for fd in mine:
        os.close(fd)
