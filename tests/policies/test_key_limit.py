"""`KeyLimit`: never more of a key at once than allowed, all permits come back, and no key is remembered."""

import asyncio

import pytest
from contract.support import helper, is_gone
from hypothesis import given, settings
from hypothesis import strategies as st
from pool.support import HeldExecutor, StubbornExecutor, named, quiet

from aiocmdpool import CommandConfig, ConfigError, ExecuteError, PoolClosed, ProcessBackend
from aiocmdpool.policies import KeyLimit, by_host, by_program

from .support import FakeTimeLoop, Scripted, cancelled, turns

AT_REST = "0 commands under 0 keys"


def first_letter(command):
    return command.program[0]


def run(executor, *names):
    return [asyncio.ensure_future(executor.execute(named(name))) for name in names]


async def test_the_second_of_a_program_starts_when_the_first_has_ended(ready, release):
    async with ProcessBackend() as backend:
        executor = KeyLimit(backend, 1)
        waits = helper("sleep_after_ready", ready.path)
        first, second = (asyncio.ensure_future(executor.execute(waits)) for _ in range(2))
        pid = int(await ready.wait())
        other = await executor.execute(named("true"))
        assert other.ok
        assert ready.heard() == []
        await cancelled(first)
        assert is_gone(pid)
        assert int(await ready.wait()) != pid
        await cancelled(second)
    assert AT_REST in repr(executor)


async def test_keys_do_not_wait_for_each_other():
    held = HeldExecutor()
    executor = KeyLimit(held, 2, key=first_letter)
    tasks = run(executor, "a1", "a2", "a3", "b1", "b2", "b3")
    await held.holds("a1", "a2", "b1", "b2")
    await quiet()
    assert held.held == ["a1", "a2", "b1", "b2"]
    assert "6 commands under 2 keys" in repr(executor)
    held.release("b1")
    await held.holds("b3")
    held.release("a2")
    await held.holds("a3")
    held.release(*held.held)
    await asyncio.gather(*tasks)
    assert AT_REST in repr(executor)


async def test_a_newcomer_counts_with_those_who_waited():
    held = HeldExecutor()
    executor = KeyLimit(held, 1, key=first_letter)
    tasks = run(executor, "a1", "a2")
    await held.holds("a1")
    held.release("a1")
    await held.holds("a2")
    await tasks[0]
    tasks += run(executor, "a3")
    await quiet()
    assert held.held == ["a2"]
    held.release("a2")
    await held.holds("a3")
    held.release("a3")
    await asyncio.gather(*tasks)


async def test_a_mapping_limits_only_its_keys():
    held = HeldExecutor()
    executor = KeyLimit(held, {"a": 1}, key=first_letter)
    tasks = run(executor, "a1", "a2", "b1", "b2", "b3")
    await held.holds("a1", "b1", "b2", "b3")
    await quiet()
    assert "a2" not in held.started
    held.release(*held.held)
    await held.holds("a2")
    held.release("a2")
    await asyncio.gather(*tasks)


async def test_no_key_is_no_limit():
    held = HeldExecutor()
    executor = KeyLimit(held, 1, key=lambda command: None)
    tasks = run(executor, "a", "b", "c")
    await held.holds("a", "b", "c")
    held.release("a", "b", "c")
    await asyncio.gather(*tasks)


async def test_a_failure_gives_its_permit_back():
    held = HeldExecutor()
    executor = KeyLimit(held, 1, key=first_letter)
    failing, following = run(executor, "a1", "a2")
    await held.holds("a1")
    held.fail("a1", ExecuteError("bad"))
    await held.holds("a2")
    held.release("a2")
    with pytest.raises(ExecuteError, match="bad"):
        await failing
    assert (await following).ok
    assert AT_REST in repr(executor)


async def test_who_is_cancelled_keeps_its_permit_until_its_command_is_dead():
    stubborn = StubbornExecutor()
    executor = KeyLimit(stubborn, 1, key=first_letter)
    first, second = run(executor, "a1", "a2")
    await stubborn.holds("a1")
    first.cancel()
    await quiet()
    assert stubborn.started == ["a1"]
    stubborn.let_go.set()
    await stubborn.holds("a2")
    await asyncio.gather(first, return_exceptions=True)
    stubborn.release("a2")
    assert (await second).ok


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_a_permit_that_arrives_with_a_cancellation_is_not_lost(cancel_first):
    held = HeldExecutor()
    executor = KeyLimit(held, 1, key=first_letter)
    holder, waiting, following = run(executor, "a1", "a2", "a3")
    await held.holds("a1")
    await quiet()
    steps = [waiting.cancel, lambda: held.release("a1")]
    for step in steps if cancel_first else reversed(steps):
        step()
    await held.holds("a3")
    held.release("a3")
    assert (await following).ok
    await asyncio.gather(holder, waiting, return_exceptions=True)
    assert held.started == ["a1", "a3"]
    assert AT_REST in repr(executor)


async def test_those_who_wait_for_a_closed_executor_are_told_at_their_turn(ready):
    backend = ProcessBackend()
    executor = KeyLimit(backend, 1)
    first, second = (asyncio.ensure_future(executor.execute(helper("sleep_after_ready", ready.path))) for _ in range(2))
    await ready.wait()
    await backend.aclose()
    await asyncio.gather(first, return_exceptions=True)
    with pytest.raises(PoolClosed):
        await second
    assert AT_REST in repr(executor)


@given(
    limit=st.integers(1, 3),
    steps=st.lists(
        st.tuples(st.sampled_from(["start", "cancel", "end"]), st.sampled_from("abc"), st.integers(0, 3)), max_size=40
    ),
)
@settings(deadline=None, max_examples=60)
def test_whatever_happens_limits_hold_and_nothing_is_left(limit, steps):
    async def scenario():
        held, most = HeldExecutor(), dict.fromkeys("abc", 0)
        executor = KeyLimit(held, limit, key=first_letter)
        tasks = []
        for number, (what, letter, wait) in enumerate(steps):
            if what == "start":
                tasks += run(executor, f"{letter}{number}")
            elif what == "cancel" and tasks:
                tasks[number % len(tasks)].cancel()
            elif what == "end":
                held.release(*[name for name in held.waiting if name[0] == letter][:1])
            await turns(wait)
            for name in most:
                most[name] = max(most[name], sum(one[0] == name for one in held.held))
        while not all(task.done() for task in tasks):
            held.release(*held.waiting)
            await turns(1)
        assert all(count <= limit for count in most.values())
        assert AT_REST in repr(executor)

    with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
        runner.run(scenario())


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.one_loop
async def test_ten_thousand_keys_leave_nothing():
    executor = KeyLimit(Scripted(), 1)
    for number in range(10_000):
        await executor.execute(named(number))
    assert AT_REST in repr(executor)


@pytest.mark.one_loop
async def test_a_key_that_is_not_hashable_is_an_error_that_says_so():
    with pytest.raises(ConfigError, match=r"key: gave \['x'\] for ls x, which is not hashable") as caught:
        await KeyLimit(Scripted(), 1, key=lambda command: [*command.args]).execute(CommandConfig("ls", ["x"]))
    assert caught.value.field == "key"


@pytest.mark.parametrize(("program", "key"), [("ffmpeg", "ffmpeg"), ("/opt/bin/ffmpeg", "ffmpeg"), ("./x", "x")])
def test_the_key_of_a_program_is_its_name(program, key):
    assert by_program(CommandConfig(program)) == key


@pytest.mark.parametrize(
    ("args", "key"),
    [
        (["-o", "file", "https://Example.org:8443/path"], "example.org"),
        (["http://user:secret@one.example/", "http://two.example/"], "one.example"),
        (["rtsp://[::1]:554/stream"], "::1"),
        (["http://[broken/", "http://fine.example"], "fine.example"),
        (["file:///etc/passwd"], None),
        (["a://", "://b", "no url"], None),
        ([], None),
    ],
)
def test_the_host_is_that_of_the_first_url(args, key):
    assert by_host(CommandConfig("curl", args)) == key
