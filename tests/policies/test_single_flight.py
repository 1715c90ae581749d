"""`SingleFlight`: one run for equal commands, whoever leaves; and no run for nobody."""

import asyncio
import gc
import weakref

import pytest
from contract.support import helper, is_gone, sh
from pool.support import HeldExecutor, named, quiet, result_of

from aiocmdpool import (
    CommandConfig,
    CommandPool,
    ConfigError,
    ExecuteError,
    NonZeroExit,
    PoolClosed,
    ProcessBackend,
    Stdio,
    TaskCancelled,
)
from aiocmdpool.policies import SingleFlight, same_command

from .support import Scripted, cancellation_of, cancelled, in_fake_time, turns

AT_REST = "0 in flight for 0 callers"


def callers(executor, count, command):
    return [asyncio.ensure_future(executor.execute(command)) for _ in range(count)]


# -- with real commands ------------------------------------------------------------------------------------------------


async def test_equal_commands_are_run_once(tmp_path):
    command = sh('echo run >> "$1"; echo said', str(tmp_path / "runs"))
    async with ProcessBackend() as backend:
        executor = SingleFlight(backend)
        results = await asyncio.gather(*callers(executor, 10, command))
        assert [result.text() for result in results] == ["said\n"] * 10
        assert (tmp_path / "runs").read_text() == "run\n"
        await executor.execute(command)
    assert (tmp_path / "runs").read_text() == "run\nrun\n"
    assert AT_REST in repr(executor)


async def test_who_is_cancelled_leaves_the_run_to_the_others(ready, release):
    command = sh('echo $$ > "$1"; read line < "$2"; echo done', ready.path, release.path)
    async with ProcessBackend() as backend:
        executor = SingleFlight(backend)
        first, second, third = callers(executor, 3, command)
        pid = int(await ready.wait())
        await cancelled(first)
        await cancelled(third)
        assert not is_gone(pid)
        assert "1 in flight for 1 callers" in repr(executor)
        release.send()
        assert (await second).text() == "done\n"
    assert ready.heard() == []


async def test_the_last_to_leave_ends_the_run_and_leaves_when_it_is_dead(ready):
    async with ProcessBackend() as backend:
        executor = SingleFlight(backend)
        both = callers(executor, 2, helper("sleep_after_ready", ready.path))
        pid = int(await ready.wait())
        for caller in both:
            caller.cancel()
        _, last = [await cancellation_of(caller) for caller in both]
        assert is_gone(pid)
    assert isinstance(last.__cause__, ExecuteError)
    assert last.__cause__.result.pid == pid
    assert AT_REST in repr(executor)


async def test_a_closed_executor_ends_the_run_for_all(ready):
    async with ProcessBackend() as backend:
        executor = SingleFlight(backend)
        three = callers(executor, 3, helper("sleep_after_ready", ready.path))
        await ready.wait()
    for caller in three:
        with pytest.raises(TaskCancelled):
            await caller
    with pytest.raises(PoolClosed):
        await executor.execute(named("true"))


async def test_a_cancelled_task_of_a_pool_leaves_the_run_to_another(ready, release):
    command = sh('echo $$ > "$1"; read line < "$2"; echo done', ready.path, release.path)
    async with ProcessBackend() as backend, CommandPool(executor=SingleFlight(backend)) as pool:
        first, second = await pool.push_tasks([command] * 2)
        await ready.wait()
        await quiet()
        first.cancel()
        with pytest.raises(TaskCancelled):
            await first
        release.send()
        assert (await second).text() == "done\n"


# -- who shares --------------------------------------------------------------------------------------------------------


async def test_each_caller_finds_its_own_command_in_the_result():
    held = HeldExecutor()
    executor = SingleFlight(held)
    commands = [named("a", label=f"for {name}", metadata={"who": name}) for name in ("me", "you")]
    both = [asyncio.ensure_future(executor.execute(command)) for command in commands]
    await held.holds("a")
    held.release("a")
    assert [result.command.metadata["who"] for result in await asyncio.gather(*both)] == ["me", "you"]
    assert held.started == ["a"]


@pytest.mark.parametrize(
    "options",
    [{"stdin": 0}, {"stdin": Stdio.INHERIT}, {"stdout": 1}, {"stderr": 2}, {"stdout": Stdio.INHERIT}, {"detach": True}],
    ids=repr,
)
@in_fake_time
async def test_what_cannot_be_shared_is_run_for_each(options):
    inner = Scripted(0, takes=1)
    await asyncio.gather(*callers(SingleFlight(inner), 3, named("a", **options)))
    assert inner.most == 3


@pytest.mark.parametrize("options", [{"stdin": b"x"}, {"timeout": 1}, {"env": {"A": "b"}}, {"check": True}], ids=repr)
@in_fake_time
async def test_what_differs_in_anything_that_counts_is_not_shared(options):
    inner = Scripted(0, takes=1)
    executor = SingleFlight(inner)
    await asyncio.gather(executor.execute(named("a")), executor.execute(named("a", **options)))
    assert inner.most == 2


@in_fake_time
async def test_somebody_else_may_say_what_is_equal():
    inner = Scripted(0, takes=1)
    executor = SingleFlight(inner, key=lambda command: command.args[-1:] or None)
    commands = [CommandConfig("curl", args) for args in (["-s", "url"], ["-v", "url"], [], [])]
    await asyncio.gather(*map(executor.execute, commands))
    assert len(inner.starts) == 3


@pytest.mark.one_loop
async def test_a_key_that_is_not_hashable_is_an_error_that_says_so():
    with pytest.raises(ConfigError, match=r"key: gave .* which is not hashable"):
        await SingleFlight(Scripted(), key=lambda command: {}).execute(named("a"))


def test_label_and_metadata_make_no_difference():
    plain = same_command(named("a"))
    assert same_command(named("a", label="x", metadata={"y": "z"})) == plain
    assert hash(same_command(named("a", label="x"))) == hash(plain)


async def test_a_command_that_comes_at_the_end_of_the_run_is_run_afresh():
    """It comes in each of the turns of the loop around the end."""
    for after in range(6):
        held = HeldExecutor()
        executor = SingleFlight(held)
        [first] = callers(executor, 1, named("a"))
        await held.holds("a")
        held.release("a")  # the run takes it in the next turn, before the second caller has its first
        await turns(after)
        [second] = callers(executor, 1, named("a"))
        await quiet()
        assert held.started == ["a", "a"], after
        held.release("a")
        await asyncio.gather(first, second)


# -- errors ------------------------------------------------------------------------------------------------------------


@in_fake_time
async def test_each_caller_gets_an_error_of_its_own():
    def fail(command):
        error = NonZeroExit("7", result=result_of(command, returncode=7))
        error.add_note("noted inside")
        return error

    executor = SingleFlight(Scripted(fail, takes=1))
    commands = [named("a", metadata={"who": name}) for name in ("me", "you", "all")]
    errors = await asyncio.gather(*[executor.execute(command) for command in commands], return_exceptions=True)
    assert [error.result.command.metadata["who"] for error in errors] == ["me", "you", "all"]
    assert [error.command for error in errors] == commands
    assert len({id(error) for error in errors}) == 3
    for error in errors:
        assert (type(error), str(error), error.__notes__) == (NonZeroExit, "7", ["noted inside"])


@in_fake_time
async def test_an_error_of_somebody_else_is_passed_on_as_it_is():
    error = ValueError("theirs")
    executor = SingleFlight(Scripted(error, takes=1))
    assert await asyncio.gather(*callers(executor, 2, named("a")), return_exceptions=True) == [error] * 2


@in_fake_time
async def test_nothing_of_a_failure_is_kept():
    failures = []

    def fail(command):
        error = NonZeroExit("7", result=result_of(command, returncode=7))
        failures.append(weakref.ref(error))
        return error

    executor = SingleFlight(Scripted(fail))
    gc.disable()
    try:
        await asyncio.gather(*callers(executor, 2, named("a")), return_exceptions=True)
        await quiet()
        assert [failure() for failure in failures] == [None]
    finally:
        gc.enable()


@in_fake_time
async def test_what_is_no_result_is_an_error():
    with pytest.raises(ExecuteError, match="not a CommandResult"):
        await SingleFlight(Scripted(lambda command: "done")).execute(named("a"))


async def test_a_run_that_is_cancelled_from_outside_cancels_nobody():
    held = HeldExecutor()
    executor = SingleFlight(held)
    both = callers(executor, 2, named("a"))
    await held.holds("a")
    held.fail("a", asyncio.CancelledError())
    for caller in both:
        with pytest.raises(TaskCancelled, match="the run it shared"):
            await caller
