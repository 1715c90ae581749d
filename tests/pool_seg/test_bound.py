"""`max_size`: what it holds, also while threads race."""

import asyncio
import contextlib
import threading

import pytest
from pool.support import InstantExecutor, named, quiet, settled

from aiocmdpool.commands.errors import ConfigError, QueueFull
from aiocmdpool.pool.seg_queue import SegQueue

from .support import threads


async def test_a_full_queue_refuses_at_once_and_adds_nothing(running_pool, held):
    pool = await running_pool(held, max_size=2)
    handles = [pool.push_task(named("a"))]
    await held.holds("a")
    handles += [pool.push_task(named("b")), pool.push_task(named("c"))]
    with pytest.raises(QueueFull, match="it holds 2 of 2 tasks"):
        pool.push_task(named("d"))
    assert (len(pool), pool.max_size, pool.statistics().submitted) == (2, 2, 3)
    for name in "abc":
        await held.holds(name)
        held.release(name)
    await settled(handles)
    assert held.started == ["a", "b", "c"]


async def test_a_batch_fits_in_or_nothing_of_it_is_added(new_pool):
    pool = new_pool(InstantExecutor(), max_size=3)
    pool.push_task(named("a"))
    with pytest.raises(QueueFull, match="no room for 3 more"):
        pool.push_tasks([named("b")] * 3)
    assert len(pool) == 1
    pool.push_tasks([named("b")] * 2)
    assert len(pool) == 3


@pytest.mark.parametrize("batch", [1, 5])
async def test_racing_threads_exceed_it_by_one_push_each_at_most(new_pool, hasty, batch):
    """All of them try until they are refused, again and again."""
    pool = new_pool(InstantExecutor(), max_size=100)
    longest = []

    def push_until_full(_: int) -> None:
        for _ in range(20):
            with contextlib.suppress(QueueFull):
                while True:
                    pool.push_tasks([named("a")] * batch)
            longest.append(len(pool))

    await threads(8, push_until_full)
    assert 100 <= max(longest) <= 100 + 7 * batch


async def test_a_withdrawn_task_gives_its_place_back_at_once(running_pool, held):
    pool = await running_pool(held, max_size=2)
    running = pool.push_task(named("a"))
    await held.holds("a")
    waiting = [pool.push_task(named("b")), pool.push_task(named("c"))]
    waiting[0].cancel()
    assert len(pool) == 1
    waiting.append(pool.push_task(named("d")))
    with pytest.raises(QueueFull):
        pool.push_task(named("e"))
    held.release("a")
    await held.holds("c")
    held.release("c")
    await held.holds("d")
    held.release("d")
    await settled([running, *waiting])
    assert held.started == ["a", "c", "d"]


async def test_withdrawn_tasks_are_not_kept(running_pool, held):
    """And those that are swept out leave the order of the others as it was."""
    pool = await running_pool(held)
    pool.push_task(named("first"))
    await held.holds("first")
    wanted = []
    for number in range(20):
        wanted.append(pool.push_task(named(number)))
        for handle in pool.push_tasks([named("x")] * 100):
            handle.cancel()
    assert len(pool) == 20
    assert len(pool._queue._entries) <= 2 * 20 + 64 + 1
    held.release("first")
    for number in range(20):
        await held.holds(number)
        held.release(number)
    await settled(wanted)
    assert held.started == ["first", *map(str, range(20))]
    counts = pool.statistics()
    assert (counts.submitted, counts.completed, counts.cancelled, counts.queued) == (2021, 21, 2000, 0)


async def test_sweeping_out_while_threads_push_loses_nothing_and_keeps_their_order(running_pool, held, hasty):
    pool = await running_pool(held)
    first = pool.push_task(named("first"))
    await held.holds("first")
    go_on = threading.Event()
    pushed: list = []

    def push(_: int) -> None:
        while not go_on.is_set() and len(pushed) < 3000:
            pushed.append(pool.push_task(named(len(pushed))))

    async def withdraw() -> None:
        for _ in range(300):
            for handle in pool.push_tasks([named("x")] * 5):
                handle.cancel()
            await quiet()
        go_on.set()

    pushing = threads(1, push)
    task = asyncio.ensure_future(withdraw())
    await pushing
    await task
    assert len(pool) == len(pushed)
    entries = [handle.command.program for handle in pool._queue._entries if not handle.done()]
    assert entries == [handle.command.program for handle in pushed]
    held.release("first")
    await settled([first])


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "9"])
async def test_a_wrong_bound_is_refused(new_pool, wrong):
    with pytest.raises(ConfigError) as caught:
        new_pool(max_size=wrong)
    assert caught.value.field == "max_size"


async def test_no_place_seems_free_while_entries_are_swept_out():
    """A thread that pushes in the middle of it would find an empty queue."""
    queue = SegQueue(None)
    seen = []

    class Entry:
        gone = False

        def done(self) -> bool:
            seen.append(len(queue))
            return self.gone

    entries = [Entry() for _ in range(101)]
    queue.put_all(entries)
    for entry in entries[:-18]:
        seen.clear()
        queue.withdrawn(entry)
        entry.gone = True
    assert set(seen) == {len(queue)} == {18}  # the last one was one too many, and swept
    assert len(queue._entries) == 18
