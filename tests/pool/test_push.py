"""Pushing: room, the line of those who wait for it, and who gets a place when somebody gives up."""

import asyncio
import itertools

import pytest
from contract.support import outcome

from aiocmdpool import CommandConfig, CommandPool, ConfigError, QueueFull, TaskStatus

from .support import InstantExecutor, drained_queue, living, named, quiet


@pytest.fixture
async def full(new_pool):
    """A pool of one place, and the task that has it."""
    pool = new_pool(max_size=1)
    return pool, pool.try_push_task(named("resident"))


async def waiting_pushers(pool, *names):
    """Pushers who wait for room, in this order."""
    pushers = [asyncio.create_task(pool.push_task(named(name))) for name in names]
    await quiet()
    assert not any(pusher.done() for pusher in pushers)
    return pushers


async def test_a_pushed_task_is_pending_and_knows_its_command(new_pool):
    command = named("a")
    handle = await new_pool().push_task(command, priority=3)
    assert (handle.command, handle.priority, handle.status) == (command, 3, TaskStatus.PENDING)


async def test_a_push_with_room_does_not_wait(new_pool):
    push = new_pool().push_task(named("a"))
    with pytest.raises(StopIteration):
        push.send(None)


async def test_tasks_pushed_before_the_start_wait_for_it(new_pool):
    executor = InstantExecutor()
    pool = new_pool(executor)
    handles = await pool.push_tasks(map(named, "abc"))
    await quiet()
    assert executor.started == []
    await pool.start_executor()
    await asyncio.gather(*handles)
    assert executor.started == ["a", "b", "c"]


async def test_a_push_waits_for_room(full):
    pool, resident = full
    [pusher] = await waiting_pushers(pool, "a")
    resident.cancel()
    handle = await pusher
    assert handle.status is TaskStatus.PENDING
    assert len(pool) == 1


async def test_the_place_of_a_task_is_free_when_it_starts(running_pool, held):
    pool = await running_pool(held, max_size=1)
    await pool.push_task(named("a"))
    await held.holds("a")
    await pool.push_task(named("b"))
    [pusher] = await waiting_pushers(pool, "c")
    held.release("a")
    await held.holds("b")
    await pusher
    assert drained_queue(pool) == ["c"]


async def test_pushers_go_on_in_the_order_they_came(full):
    pool, resident = full
    pushers = await waiting_pushers(pool, *"abcde")
    place = resident
    for index, pusher in enumerate(pushers):
        place.cancel()
        await quiet()
        assert [other.done() for other in pushers] == [True] * (index + 1) + [False] * (4 - index)
        place = pusher.result()


async def test_one_place_lets_one_pusher_go_on(new_pool):
    pool = new_pool(max_size=2)
    handles = await pool.push_tasks(map(named, "ab"))
    pushers = await waiting_pushers(pool, "c", "d")
    handles[0].cancel()
    await quiet()
    assert [pusher.done() for pusher in pushers] == [True, False]
    assert len(pool) == 2
    handles[1].cancel()
    await pushers[1]


async def test_places_that_come_together_let_as_many_go_on(new_pool):
    pool = new_pool(max_size=3)
    await pool.push_tasks(map(named, "abc"))
    pushers = await waiting_pushers(pool, *"defg")
    assert pool.clear() == 3
    await quiet()
    assert [pusher.done() for pusher in pushers] == [True, True, True, False]
    assert drained_queue(pool) == ["d", "e", "f"]
    await pushers[3]


async def test_nobody_overtakes_a_waiting_pusher(full):
    """Between the moment a place is handed over and the moment its new owner comes to use it."""
    pool, resident = full
    [pusher] = await waiting_pushers(pool, "first")
    resident.cancel()
    with pytest.raises(QueueFull):
        pool.try_push_task(named("thief"))
    late = asyncio.create_task(pool.push_task(named("late")))
    await quiet()
    assert (pusher.done(), late.done()) == (True, False)
    assert drained_queue(pool)[:1] == ["first"]
    await late


# -- pushers who give up ----------------------------------------------------------------------------------------


async def test_a_pusher_that_is_cancelled_leaves_the_line(full):
    pool, resident = full
    first, second = await waiting_pushers(pool, "first", "second")
    first.cancel()
    await quiet()
    assert first.cancelled()
    resident.cancel()
    await second
    assert drained_queue(pool) == ["second"]


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_a_place_that_arrives_with_a_cancellation_goes_to_the_next(full, cancel_first):
    pool, resident = full
    first, second = await waiting_pushers(pool, "first", "second")
    steps = [first.cancel, resident.cancel]
    for step in steps if cancel_first else reversed(steps):
        step()
    await quiet()
    assert first.cancelled()
    assert second.done()
    assert drained_queue(pool) == ["second"]
    assert pool.statistics().submitted == 2


async def test_a_place_that_arrives_with_the_cancellation_of_all_is_free(full):
    pool, resident = full
    pushers = await waiting_pushers(pool, *"abc")
    resident.cancel()
    for pusher in pushers:
        pusher.cancel()
    await quiet()
    assert all(pusher.cancelled() for pusher in pushers)
    assert len(pool) == 0
    pool.try_push_task(named("d"))
    with pytest.raises(QueueFull):
        pool.try_push_task(named("e"))


@pytest.mark.parametrize("doomed", list(itertools.product([False, True], repeat=4)))
async def test_no_place_is_lost_whoever_gives_up(new_pool, doomed):
    """Two places come while some of four pushers are cancelled in the same turn."""
    pool = new_pool(max_size=2)
    await pool.push_tasks(map(named, "xy"))
    pushers = await waiting_pushers(pool, *"abcd")
    pool.clear()
    for pusher, dies in zip(pushers, doomed, strict=True):
        if dies:
            pusher.cancel()
    await quiet()
    patient = [name for name, dies in zip("abcd", doomed, strict=True) if not dies]
    assert len(pool) == min(2, len(patient))
    assert drained_queue(pool) == patient[:2]
    await quiet()
    assert drained_queue(pool) == patient[2:]
    assert len(pool) == 0


async def test_a_push_inside_a_timeout_gives_up_in_time(full):
    pool, resident = full
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await pool.push_task(named("a"))
    resident.cancel()
    assert len(pool) == 0
    assert pool.statistics().submitted == 1


@pytest.mark.one_loop
async def test_pushers_who_gave_up_are_not_kept(full):
    """A service whose queue is stuck, and whose callers try again and again."""
    pool, _ = full

    async def give_up(times):
        for _ in range(times):
            pusher = asyncio.create_task(pool.push_task(named("a")))
            await asyncio.sleep(0)
            pusher.cancel()
            await asyncio.wait([pusher])

    before = living(asyncio.Future)
    await give_up(200)
    assert living(asyncio.Future) - before < 10


# -- try_push_task ----------------------------------------------------------------------------------------------


async def test_try_push_task_raises_queue_full_at_once(full):
    pool, _ = full
    with pytest.raises(QueueFull, match=r"holds 1 of 1 tasks; wait with push_task, or raise max_size"):
        pool.try_push_task(named("a"))
    assert pool.statistics().submitted == len(pool) == 1


async def test_a_queue_without_a_bound_is_never_full(new_pool):
    pool = new_pool(max_size=None)
    for number in range(3000):
        pool.try_push_task(named(number))
    assert len(pool) == 3000
    assert pool.max_size is None


def test_a_try_push_outside_a_loop_takes_no_place():
    async def push_into(pool):
        pool.try_push_task(named("b"))
        await pool.stop()

    pool = CommandPool(max_size=1)
    with pytest.raises(RuntimeError, match="no running event loop"):
        pool.try_push_task(named("a"))
    assert len(pool) == 0
    asyncio.run(push_into(pool))


# -- batches ----------------------------------------------------------------------------------------------------


async def test_push_tasks_keeps_the_order(new_pool):
    pool = new_pool()
    handles = await pool.push_tasks([named(name) for name in "cab"], priority=2)
    assert [handle.command.program for handle in handles] == ["c", "a", "b"]
    assert {handle.priority for handle in handles} == {2}
    assert drained_queue(pool) == ["c", "a", "b"]


async def test_push_tasks_takes_each_command_when_there_is_room(new_pool):
    taken = []

    def source():
        for number in itertools.count():
            taken.append(number)
            yield named(number)

    pool = new_pool(max_size=3)
    pushing = asyncio.create_task(pool.push_tasks(source()))
    await quiet()
    assert taken == [0, 1, 2, 3]  # the last one waits at the door
    pool.pop_task()
    await quiet()
    assert taken == [0, 1, 2, 3, 4]
    pushing.cancel()
    await asyncio.wait([pushing])


async def test_push_tasks_cancelled_in_between_leaves_those_added_so_far(new_pool):
    pool = new_pool(max_size=2)
    pushing = asyncio.create_task(pool.push_tasks(map(named, "abcd")))
    await quiet()
    pushing.cancel()
    assert isinstance(await outcome(pushing), asyncio.CancelledError)
    assert drained_queue(pool) == ["a", "b"]
    assert len(pool) == 0


async def test_try_push_tasks_adds_all(new_pool):
    pool = new_pool(max_size=3)
    handles = pool.try_push_tasks(map(named, "abc"))
    assert [handle.command.program for handle in handles] == drained_queue(pool) == ["a", "b", "c"]


async def test_try_push_tasks_adds_all_or_nothing(new_pool):
    pool = new_pool(max_size=3)
    pool.try_push_task(named("a"))
    with pytest.raises(QueueFull, match=r"no room for 3 more in the queue: it holds 1 of 3"):
        pool.try_push_tasks(map(named, "bcd"))
    assert (len(pool), pool.statistics().submitted) == (1, 1)
    pool.try_push_tasks(map(named, "ef"))
    assert drained_queue(pool) == ["a", "e", "f"]


async def test_try_push_tasks_with_one_bad_command_adds_nothing(new_pool):
    pool = new_pool()
    with pytest.raises(ConfigError, match="command"):
        pool.try_push_tasks([CommandConfig("a"), "b"])
    assert (len(pool), pool.statistics().submitted) == (0, 0)


async def test_try_push_tasks_respects_those_who_wait(full):
    pool, resident = full
    [pusher] = await waiting_pushers(pool, "first")
    resident.cancel()
    with pytest.raises(QueueFull):
        pool.try_push_tasks([named("thief")])
    await pusher


async def test_no_commands_need_no_room(full):
    pool, resident = full
    [pusher] = await waiting_pushers(pool, "first")
    assert pool.try_push_tasks([]) == []
    assert await pool.push_tasks([]) == []
    resident.cancel()
    await pusher
