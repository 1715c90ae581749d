"""What any number of threads push is run, each once, in order; and the loop is woken when it must be, and only then."""

import asyncio
import threading
from collections import Counter, deque

import pytest
from pool.support import InstantExecutor, assert_counts_add_up, named, quiet, settled

from aiocmdpool import TaskStatus
from aiocmdpool.commands.errors import ConfigError
from aiocmdpool.pool.seg_queue import SegQueue

from .support import Thread, threads

both_loops = pytest.mark.one_loop("asyncio", "uvloop")


def count_wakes(pool) -> list[int]:
    """How often the loop is woken from now on."""
    wakes: list[int] = []
    call = type(pool).call_on_loop.__get__(pool)

    def counting(callback):
        if callback == pool._queue.wake_runners:
            wakes.append(1)
        return call(callback)

    pool.call_on_loop = counting
    return wakes


async def test_a_task_pushed_by_a_thread_is_run(running_pool):
    pool = await running_pool(InstantExecutor())
    handle = await Thread(pool.push_task, named("a"))
    result = await handle
    assert result.command.program == "a"
    assert result.queued == handle.queued > 0
    assert handle.status is TaskStatus.COMPLETED
    assert pool.tracker.get(handle.id) is TaskStatus.COMPLETED


async def test_tasks_pushed_before_the_start_wait_for_it(new_pool):
    executor = InstantExecutor()
    pool = new_pool(executor)
    handles = [pool.push_task(named(0)), *await Thread(pool.push_tasks, [named(1), named(2)])]
    await quiet()
    assert (len(pool), executor.started) == (3, [])
    assert {handle.status for handle in handles} == {TaskStatus.PENDING}
    assert_counts_add_up(pool, handles)
    await pool.start_executor()
    await settled(handles)
    assert executor.started == ["0", "1", "2"]
    assert_counts_add_up(pool, handles)


async def test_many_threads_are_all_served_once_each_in_their_order(running_pool, hasty):
    executor = InstantExecutor()
    pool = await running_pool(executor, limit=4)
    pushed = await threads(8, lambda thread: [pool.push_task(named(f"{thread}.{n}")) for n in range(1000)])
    handles = [handle for mine in pushed for handle in mine]
    await settled(handles)
    assert Counter(executor.started).most_common(1)[0][1] == 1
    assert len(executor.started) == 8000
    for thread in range(8):
        mine = [name for name in executor.started if name.startswith(f"{thread}.")]
        assert mine == [f"{thread}.{number}" for number in range(1000)]
    assert executor.most <= 4
    assert len({handle.id for handle in handles}) == 8000
    assert_counts_add_up(pool, handles)


async def test_a_batch_stays_together(new_pool, hasty):
    executor = InstantExecutor()
    pool = new_pool(executor)
    await threads(4, lambda thread: [pool.push_tasks([named(thread)] * 50) for _ in range(20)])
    await pool.start_executor()
    await pool.stop()
    names = executor.started
    assert [len(set(names[at : at + 50])) for at in range(0, 4000, 50)] == [1] * 80


async def test_a_batch_with_something_wrong_in_it_adds_nothing(running_pool, held):
    pool = await running_pool(held)
    for wrong in ("true", None):
        with pytest.raises(ConfigError, match="command"):
            pool.push_tasks([named("a"), wrong])
        with pytest.raises(ConfigError, match="command"):
            pool.push_task(wrong)
    assert (len(pool), pool.statistics().submitted) == (0, 0)
    assert pool.push_tasks([]) == []


# -- waking the loop ----------------------------------------------------------------------------------------------


@both_loops
async def test_a_wake_up_is_never_missed(running_pool, hasty):
    """Each thread waits for the outcome before it pushes again: one missed wake-up, and it waits for ever."""
    pool = await running_pool(InstantExecutor(), limit=2)
    results = await threads(4, lambda thread: [pool.push_task(named(thread)).result(20).ok for _ in range(500)])
    assert results == [[True] * 500] * 4


@both_loops
async def test_a_wake_up_is_never_missed_by_the_last_of_a_burst(running_pool, hasty):
    """Bursts end at any moment, as runners go to sleep and are woken; nothing comes after them to help."""
    pool = await running_pool(InstantExecutor(), limit=3)

    def bursts(thread: int) -> bool:
        for number in range(200):
            handles = [pool.push_task(named(thread)) for _ in range(1 + number % 7)]
            handles[-1].result(20)
        return True

    assert await threads(4, bursts) == [True] * 4
    counts = pool.statistics()
    assert (counts.queued, counts.running) == (0, 0)


async def test_a_burst_wakes_the_loop_once(running_pool):
    executor = InstantExecutor()
    pool = await running_pool(executor, limit=4)
    await quiet()  # all of its runners sleep
    wakes = count_wakes(pool)
    for handle in [pool.push_task(named(number)) for number in range(1000)]:  # the loop does not get a turn in there
        assert not handle.done()
    await pool.stop()
    assert (len(executor.started), len(wakes)) == (1000, 1)
    assert executor.most == 4


async def test_a_burst_from_many_threads_wakes_the_loop_once(running_pool, hasty):
    """The loop is kept from coming round to it: the token must be enough for one of them only."""
    pool = await running_pool(InstantExecutor(), limit=2)
    await quiet()
    for _ in range(50):
        wakes = count_wakes(pool)
        pushing = [threading.Thread(target=pool.push_tasks, args=([named("a")] * 3,)) for _ in range(8)]
        for thread in pushing:
            thread.start()
        for thread in pushing:
            thread.join()
        assert len(wakes) == 1
        await quiet()
    await pool.stop()
    assert pool.statistics().completed == 50 * 8 * 3


async def test_nobody_wakes_the_loop_while_every_runner_is_busy(running_pool, held):
    pool = await running_pool(held, limit=2)
    first = pool.push_tasks([named("a"), named("b")])
    await held.holds("a", "b")
    wakes = count_wakes(pool)
    handles = await Thread(pool.push_tasks, [named(number) for number in range(3)])
    handles.append(await Thread(pool.push_task, named(3)))
    await quiet()
    assert wakes == []
    held.release("a", "b")
    for number in range(4):
        await held.holds(number)
        held.release(number)
    await settled([*first, *handles])
    assert wakes == []


async def test_an_idle_runner_is_woken_while_others_are_busy(running_pool, held):
    pool = await running_pool(held, limit=3)
    for name in "abc":
        await Thread(pool.push_task, named(name))
        await held.holds(name)
    assert held.held == ["a", "b", "c"]
    held.release("a", "b", "c")


async def test_an_idle_pool_does_nothing(running_pool):
    pool = await running_pool(InstantExecutor(), limit=2)
    await quiet()
    wakes = count_wakes(pool)
    queue = pool._queue
    looked = []
    look = queue.get_nowait
    queue.get_nowait = lambda: looked.append(1) or look()
    await quiet()
    assert (wakes, looked) == ([], [])


class Interleaved(deque):
    """A wake token at which something happens just before, or just after, the token is put there."""

    def __init__(self, before=lambda: None, after=lambda: None) -> None:
        super().__init__()
        self.before, self.after = before, after

    def append(self, token: None) -> None:
        self.before()
        super().append(token)
        self.after()


@pytest.mark.parametrize("moment", ["before", "after", "after, and the wake-up comes late"])
async def test_a_push_at_the_very_moment_a_runner_goes_to_sleep(moment, new_pool):
    """Between its last look and its sleep: the orders that a race comes down to, each made to happen."""
    pool = new_pool(InstantExecutor())
    queue, loop = SegQueue(None), asyncio.get_running_loop()
    handle = pool.push_task(named("a"))
    late = []

    def push() -> None:
        queue.wake_token = wake_token  # the token, once it is there, is not put there again
        queue.put(handle)
        if queue.take_wake_token():
            late.append(1) if "late" in moment else loop.call_soon(queue.wake_runners)

    wake_token = queue.wake_token = Interleaved(**{moment.split(",", maxsplit=1)[0]: push})
    runner = asyncio.ensure_future(queue.get())
    await quiet()
    if late:
        assert not runner.done()
        queue.wake_runners()
    wake_token.before = wake_token.after = lambda: None
    async with asyncio.timeout(5):
        assert await runner is handle


async def test_a_runner_that_is_cancelled_as_it_is_woken_wakes_another(new_pool):
    pool, queue = new_pool(InstantExecutor()), SegQueue(None)
    runners = [asyncio.ensure_future(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    handles = pool.push_tasks([named("a"), named("b")])
    queue.put_all(handles)
    assert queue.take_wake_token()
    queue.wake_runners()
    runners[0].cancel()
    async with asyncio.timeout(5):
        assert await asyncio.gather(*runners[1:]) == handles
    assert runners[0].cancelled()
    assert not queue.take_wake_token()  # nobody sleeps


async def test_a_sleeping_runner_that_is_cancelled_is_not_woken(new_pool):
    pool, queue = new_pool(InstantExecutor()), SegQueue(None)
    gone, other = (asyncio.ensure_future(queue.get()) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    handle = pool.push_task(named("a"))
    queue.put(handle)
    assert queue.take_wake_token()
    queue.wake_runners()  # before the cancelled one has taken itself off the list
    async with asyncio.timeout(5):
        assert await other is handle
    assert gone.cancelled()
