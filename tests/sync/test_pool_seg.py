"""`sync.CommandPoolSeg`: pushes from threads, a life without a loop."""

import threading

import pytest

from aiocmdpool import CommandConfig, PoolClosed, QueueFull, sync


def test_what_threads_push_is_run_and_heard_of():
    heard: dict[int, str] = {}
    with sync.CommandPoolSeg() as pool:

        def use(number: int) -> None:
            heard[number] = pool.push_task(CommandConfig("echo", [str(number)])).result(timeout=30).text()

        threads = [threading.Thread(target=use, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert pool.execute(CommandConfig("echo", ["blocking"])).text() == "blocking\n"
        assert pool.statistics().completed == 21
    assert heard == {number: f"{number}\n" for number in range(20)}


def test_it_is_filled_before_it_starts_and_says_when_it_is_full():
    pool = sync.CommandPoolSeg(max_size=3)
    handles = pool.push_tasks([CommandConfig("echo", [str(number)]) for number in range(3)])
    with pytest.raises(QueueFull):
        pool.push_task(CommandConfig("true"))
    assert len(pool) == 3
    pool.start_executor()
    assert [handle.result(timeout=30).text() for handle in handles] == ["0\n", "1\n", "2\n"]
    pool.stop()
    assert pool.is_stopped()
    with pytest.raises(PoolClosed):
        pool.push_task(CommandConfig("true"))


def test_an_exception_in_the_block_ends_what_runs():
    pool = sync.CommandPoolSeg()
    handle = pool.push_task(CommandConfig("sleep", ["60"]))

    def leave() -> None:
        with pool:
            raise KeyError

    with pytest.raises(KeyError):
        leave()
    assert handle.cancelled()
