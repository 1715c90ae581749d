"""`Admission`: what is held back and how long, that one always runs, and systems that do not tell."""

import asyncio

import pytest
from contract.support import helper
from pool.support import HeldExecutor, named, quiet

from aiocmdpool import CommandPool, ConfigError, ExecuteError, PoolClosed, ProcessBackend
from aiocmdpool.policies import Admission, admission

from .support import Scripted, cancelled, in_fake_time, turns


class Room:
    """The room that the system says it has."""

    def __init__(self):
        self.memory, self.pressure, self.looks, self.broken = 1 << 40, 0.0, 0, False

    def available(self):
        self.looks += 1
        if self.broken:
            raise OSError("out of sight")
        return self.memory

    def percent(self):
        self.looks += 1
        return self.pressure


@pytest.fixture
def room(monkeypatch):
    room = Room()
    monkeypatch.setattr(admission, "Memory", lambda: room)
    monkeypatch.setattr(admission, "CpuPressure", lambda: room)
    return room


def run(executor, *names):
    return [asyncio.ensure_future(executor.execute(named(name))) for name in names]


# -- with the real system ----------------------------------------------------------------------------------------------


async def test_where_there_is_room_commands_run():
    async with ProcessBackend() as backend:
        executor = Admission(backend, min_memory=1)
        async with CommandPool(executor=executor) as pool:
            results = [result async for result in pool.map([named("echo").with_args(f"{n}") for n in range(5)])]
    assert [result.text() for result in results] == [f"{n}\n" for n in range(5)]
    assert "0 running, 0 waiting" in repr(executor)


async def test_where_there_is_none_they_run_one_by_one(ready):
    async with ProcessBackend() as backend:
        executor = Admission(backend, min_memory=1 << 60, interval=0.01)
        first, second = (
            asyncio.ensure_future(executor.execute(helper("sleep_after_ready", ready.path))) for _ in range(2)
        )
        pid = int(await ready.wait())
        await asyncio.sleep(0.05)  # some looks
        assert ready.heard() == []
        assert "1 running, 1 waiting" in repr(executor)
        await cancelled(first)
        assert int(await ready.wait()) != pid
        await cancelled(second)


async def test_those_who_wait_for_a_closed_executor_are_told_at_their_turn(ready):
    backend = ProcessBackend()
    executor = Admission(backend, min_memory=1 << 60, interval=1000)
    both = [asyncio.ensure_future(executor.execute(helper("sleep_after_ready", ready.path))) for _ in range(2)]
    await ready.wait()
    await backend.aclose()
    _, second = await asyncio.gather(*both, return_exceptions=True)
    assert isinstance(second, PoolClosed)


# -- when --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["memory", "pressure"])
@in_fake_time
async def test_a_start_waits_until_there_is_room(room, what):
    inner = Scripted(0, takes=1000)
    executor = Admission(inner, min_memory=1 << 30, max_cpu_pressure=50)
    room.memory, room.pressure = (1 << 29, 0) if what == "memory" else (1 << 40, 50.1)
    tasks = run(executor, "a", "b")
    await asyncio.sleep(7.5)
    room.memory, room.pressure = 1 << 30, 50
    await asyncio.gather(*tasks)
    assert inner.starts == [0, 8]


@in_fake_time
async def test_it_says_why(room):
    executor = Admission(Scripted(0, takes=10), min_memory=3 << 30, max_cpu_pressure=50)
    room.memory = 2 << 30
    tasks = run(executor, "a", "b")
    await asyncio.sleep(1)
    said = "1 running, 1 waiting (2048 MiB of memory are available, less than 3072)"
    assert f"<Admission 3072 MiB available, CPU pressure up to 50 %, {said}, around " in repr(executor)
    room.memory, room.pressure = 4 << 30, 60
    await asyncio.sleep(1)
    assert "(the pressure on the CPU is 60 %, more than 50)" in repr(executor)
    await asyncio.gather(*tasks)


@in_fake_time
async def test_one_always_runs(room):
    """And at once when the one before has ended, not at the next look."""
    room.memory = 0
    inner = Scripted(0, takes=1.25)
    await asyncio.gather(*run(Admission(inner, min_memory=1, interval=1000), *"abcd"))
    assert (inner.starts, inner.most) == ([0, 1.25, 2.5, 3.75], 1)


@in_fake_time
async def test_where_there_is_room_nothing_waits_and_few_looks_are_made(room):
    inner = Scripted(0, takes=100)
    await asyncio.gather(*run(Admission(inner, min_memory=1), *map(str, range(500))))
    assert set(inner.starts) == {0}
    assert room.looks <= 2


@in_fake_time
async def test_after_a_wait_starts_are_apart_so_that_each_shows_its_effect(room):
    """Without that, all that waited would rush in at the first look that finds room."""
    room.memory = 0
    inner = Scripted(0, takes=1000)
    executor = Admission(inner, min_memory=1, interval=2)
    tasks = run(executor, *"abcdef")
    await asyncio.sleep(5)
    room.memory = 10
    await asyncio.sleep(0.5 + 2 * 2)
    assert inner.starts == [0, 6, 8]
    room.memory = 0
    await asyncio.sleep(10)
    assert inner.starts == [0, 6, 8]
    room.memory = 10
    await asyncio.gather(*tasks)
    assert inner.starts == [0, 6, 8, 20, 22, 24]


@in_fake_time
async def test_when_nobody_waits_any_more_nothing_is_delayed(room):
    room.memory = 0
    inner = Scripted(0, takes=1000)
    executor = Admission(inner, min_memory=1)
    tasks = run(executor, "a", "b")
    await asyncio.sleep(1.5)
    room.memory = 10
    await asyncio.sleep(1)
    tasks += run(executor, "c", "d", "e")
    await asyncio.gather(*tasks)
    assert inner.starts == [0, 2, 2.5, 2.5, 2.5]


@in_fake_time
async def test_the_end_of_a_command_is_a_look(room):
    room.memory = 0
    held = HeldExecutor()
    executor = Admission(held, min_memory=1, interval=1000)
    room.memory = 10
    tasks = run(executor, "a", "b")
    await held.holds("a", "b")
    await asyncio.sleep(1)
    room.memory = 0
    tasks += run(executor, "c", "d")
    await quiet()
    room.memory = 10
    await quiet()
    assert held.started == ["a", "b"]
    held.release("a")
    await quiet()
    assert held.started == ["a", "b", "c"]
    held.fail("b", ExecuteError("bad"))
    await quiet()
    assert held.started == ["a", "b", "c", "d"]
    held.release("c", "d")
    await asyncio.gather(*tasks, return_exceptions=True)


@in_fake_time
async def test_a_look_that_is_not_needed_any_more_is_not_made(room):
    room.memory = 0
    held = HeldExecutor()
    executor = Admission(held, min_memory=1, interval=10)
    tasks = run(executor, "a", "b")  # b would look at 10, and starts at the end of a
    await asyncio.sleep(5)
    held.release("a")
    await held.holds("b")
    tasks += run(executor, "c")  # looks at 5 and at 15
    await quiet()
    looks = room.looks
    await asyncio.sleep(9)
    assert room.looks == looks
    held.release("b")
    await held.holds("c")
    held.release("c")
    await asyncio.gather(*tasks)


@in_fake_time
async def test_starts_are_in_the_order_of_the_calls(room):
    inner = Scripted(0, takes=0.3)
    room.memory = 0
    await asyncio.gather(*run(Admission(inner, min_memory=1, interval=0.1), *"abcdefgh"))
    assert [command.program for command in inner.commands] == list("abcdefgh")


# -- cancellation ------------------------------------------------------------------------------------------------------


@in_fake_time
async def test_who_is_cancelled_while_it_waits_is_skipped(room):
    room.memory = 0
    held = HeldExecutor()
    executor = Admission(held, min_memory=1, interval=1000)
    a, b, c = run(executor, "a", "b", "c")
    await held.holds("a")
    await quiet()
    await cancelled(b)
    held.release("a")
    await held.holds("c")
    held.release("c")
    await asyncio.gather(a, c)
    assert held.started == ["a", "c"]
    assert "0 running, 0 waiting" in repr(executor)


@pytest.mark.parametrize("after", range(6))
@pytest.mark.parametrize("end_first", [True, False])
@in_fake_time
async def test_a_cancellation_that_comes_with_the_start_loses_none(room, after, end_first):
    room.memory = 0
    held = HeldExecutor()
    executor = Admission(held, min_memory=1, interval=1000)
    a, b, c = run(executor, "a", "b", "c")
    await held.holds("a")
    await quiet()
    steps = [lambda: held.release("a"), b.cancel]
    for step in steps if end_first else reversed(steps):
        step()
        await turns(after)
    await asyncio.gather(b, return_exceptions=True)
    await held.holds("c")
    held.release("c")
    await asyncio.gather(a, c)
    assert "0 running, 0 waiting" in repr(executor)


# -- systems that do not tell ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("field", "figure"), [("min_memory", "Memory"), ("max_cpu_pressure", "CpuPressure")])
def test_a_figure_that_this_system_does_not_give_is_an_error_at_once(monkeypatch, field, figure):
    def missing():
        raise FileNotFoundError(2, "No such file or directory", "/proc/pressure/cpu")

    monkeypatch.setattr(admission, figure, missing)
    with pytest.raises(
        ConfigError, match=f"{field}: this system does not tell: .*leave the setting out here"
    ) as caught:
        Admission(ProcessBackend(), **{field: 50})
    assert caught.value.field == field


@in_fake_time
async def test_a_figure_that_is_lost_later_holds_nothing_back_and_the_log_says_so_once(room, caplog):
    room.broken = True
    inner = Scripted(0, takes=10)
    executor = Admission(inner, min_memory=1)
    tasks = run(executor, *"abc")
    await asyncio.sleep(1)
    await asyncio.gather(*tasks, *run(executor, *"def"))
    assert set(inner.starts) == {0, 1}
    assert [record.getMessage() for record in caplog.records] == [
        "nothing is held back any more, as the room cannot be seen: out of sight"
    ]
