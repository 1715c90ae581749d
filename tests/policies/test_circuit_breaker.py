"""`CircuitBreaker`: what opens it, what it says then, and that no trial is ever stuck."""

import asyncio
import contextlib
import gc
import pickle
import weakref

import pytest
from contract.support import helper, is_gone, outcome, sh
from pool.support import HeldExecutor, StubbornExecutor, named, quiet, result_of

from aiocmdpool import CommandPool, ConfigError, ExecuteError, NonZeroExit, PoolClosed, ProcessBackend, TaskCancelled
from aiocmdpool.commands.errors import CircuitOpen
from aiocmdpool.policies import CircuitBreaker, CircuitState, by_host

from .support import Scripted, cancelled, in_fake_time, turns

EVER = 1e6  # seconds that an opened circuit stays so, where the clock is a real one


# -- with real commands ------------------------------------------------------------------------------------------------


async def test_a_program_that_keeps_failing_is_not_started_any_more(tmp_path):
    command = sh('echo run >> "$1"; echo "no luck" >&2; exit 3', str(tmp_path / "runs"), check=True, label="luckless")
    async with ProcessBackend() as backend:
        executor = CircuitBreaker(backend, failures=2, reset_after=EVER)
        for _ in range(2):
            with pytest.raises(NonZeroExit):
                await executor.execute(command)
        with pytest.raises(CircuitOpen, match="luckless: not started, the circuit 'sh' is open; one will be tried in"):
            await executor.execute(command)
        assert (await executor.execute(named("true"))).ok
    assert (tmp_path / "runs").read_text() == "run\nrun\n"
    assert "1 open" in repr(executor)


async def test_it_closes_once_a_command_succeeds(tmp_path):
    command = sh('test -e "$1"', str(tmp_path / "there"))
    async with ProcessBackend() as backend:
        executor = CircuitBreaker(backend, failures=1, reset_after=0.001)
        assert (await executor.execute(command)).returncode == 1
        (tmp_path / "there").touch()
        await asyncio.sleep(0.01)
        assert executor.state("sh") is CircuitState.HALF_OPEN
        assert (await executor.execute(command)).ok
        assert executor.state("sh") is CircuitState.CLOSED


async def test_a_trial_that_is_cancelled_is_dead_and_the_next_command_is_the_trial(ready):
    async with ProcessBackend() as backend:
        executor = CircuitBreaker(backend, failures=1, reset_after=0.001, key=lambda command: "all")
        await executor.execute(named("false"))
        await asyncio.sleep(0.01)
        trial = asyncio.ensure_future(executor.execute(helper("sleep_after_ready", ready.path)))
        pid = int(await ready.wait())
        with pytest.raises(CircuitOpen, match="one command is being tried now"):
            await executor.execute(named("true"))
        await cancelled(trial)
        assert is_gone(pid)
        assert (await executor.execute(named("true"))).ok
        assert executor.state("all") is CircuitState.CLOSED


async def test_a_closed_executor_is_no_failure():
    backend = ProcessBackend()
    executor = CircuitBreaker(backend, failures=1)
    await backend.aclose()
    for _ in range(2):
        with pytest.raises(PoolClosed):
            await executor.execute(named("true"))


async def test_a_pool_passes_the_refusal_on():
    async with ProcessBackend() as backend:
        executor = CircuitBreaker(backend, failures=1, reset_after=EVER)
        async with CommandPool(executor=executor) as pool:
            await pool.execute(named("false"))
            with pytest.raises(CircuitOpen) as caught:
                await pool.execute(named("false"))
    assert caught.value.key == "false"


# -- what counts -------------------------------------------------------------------------------------------------------


@in_fake_time
async def test_it_says_when_it_will_try_again_and_what_was_wrong():
    executor = CircuitBreaker(Scripted(1, 0), failures=1, reset_after=30)
    await executor.execute(named("a"))
    await asyncio.sleep(17.5)
    with pytest.raises(CircuitOpen) as caught:
        await executor.execute(named("a", label="again"))
    assert str(caught.value) == (
        "again: not started, the circuit 'a' is open; one will be tried in 12.5 s "
        "(last failure: exit status 1 after 0.00 s)"
    )
    assert caught.value.retry_after == pytest.approx(12.5)
    await asyncio.sleep(12.5)
    assert (await executor.execute(named("a"))).ok


@pytest.mark.parametrize("silent", [TaskCancelled("x"), PoolClosed("x"), ConfigError("x"), CircuitOpen("x")], ids=repr)
@in_fake_time
async def test_what_others_decided_says_nothing(silent):
    executor = CircuitBreaker(Scripted(silent, silent, 1, silent, 1, 0), failures=2)
    for _ in range(5):
        await outcome(executor.execute(named("a")))
    assert executor.state("a") is CircuitState.OPEN


@pytest.mark.parametrize("failure", [1, NonZeroExit("x"), ExecuteError("x"), ConnectionError("theirs")], ids=repr)
@in_fake_time
async def test_all_else_is_a_failure(failure):
    executor = CircuitBreaker(Scripted(failure), failures=1)
    await outcome(executor.execute(named("a")))
    assert executor.state("a") is CircuitState.OPEN


@in_fake_time
async def test_somebody_else_may_say_what_a_failure_is():
    executor = CircuitBreaker(
        Scripted(1, ExecuteError("mine"), 2), failures=1, failed=lambda result: getattr(result, "returncode", 0) == 2
    )
    for expected in (CircuitState.CLOSED, CircuitState.CLOSED, CircuitState.OPEN):
        await outcome(executor.execute(named("a")))
        assert executor.state("a") is expected


@in_fake_time
async def test_who_cannot_say_it_leaves_no_trial_behind():
    def broken(outcome):
        if sick:
            raise RuntimeError("cannot say")
        return bool(outcome.returncode)

    sick = []
    executor = CircuitBreaker(Scripted(1, 0), failures=1, reset_after=1, failed=broken)
    await executor.execute(named("a"))
    await asyncio.sleep(1)
    sick.append(True)
    with pytest.raises(RuntimeError, match="cannot say"):
        await executor.execute(named("a"))
    sick.clear()
    assert (await executor.execute(named("a"))).ok
    assert executor.state("a") is CircuitState.CLOSED


@in_fake_time
async def test_no_key_is_no_circuit():
    executor = CircuitBreaker(Scripted(1), failures=1, key=by_host)
    for _ in range(3):
        assert (await executor.execute(named("curl"))).returncode == 1
    url = named("curl").with_args("http://host.example")
    await executor.execute(url)
    with pytest.raises(CircuitOpen, match=r"'host\.example'"):
        await executor.execute(url)


@in_fake_time
async def test_nothing_of_a_failure_is_kept():
    failures = []

    def fail(command):
        error = NonZeroExit("7", result=result_of(command, returncode=7))
        failures.append(weakref.ref(error))
        return error

    executor = CircuitBreaker(Scripted(fail), failures=1)
    gc.disable()
    try:
        with contextlib.suppress(NonZeroExit):
            await executor.execute(named("a"))
        assert [failure() for failure in failures] == [None]
    finally:
        gc.enable()


# -- cancellation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", range(8))
@in_fake_time
async def test_a_trial_is_never_stuck_wherever_it_is_cancelled(after):
    inner = Scripted(1, 0)
    executor = CircuitBreaker(inner, failures=1, reset_after=1)
    await executor.execute(named("a"))
    await asyncio.sleep(1)
    trial = asyncio.ensure_future(executor.execute(named("a")))
    await turns(after)
    trial.cancel()
    await asyncio.gather(trial, return_exceptions=True)
    assert (await executor.execute(named("a"))).ok
    assert executor.state("a") is CircuitState.CLOSED


@pytest.mark.one_loop
async def test_a_trial_tries_until_it_is_dead():
    stubborn = StubbornExecutor()
    executor = CircuitBreaker(stubborn, failures=1, reset_after=0.001)
    failing = asyncio.ensure_future(executor.execute(named("a")))
    await stubborn.holds("a")
    stubborn.fail("a", ExecuteError("bad"))
    await outcome(failing)
    await asyncio.sleep(0.01)
    trial = asyncio.ensure_future(executor.execute(named("a")))
    await stubborn.holds("a")
    trial.cancel()
    await quiet()
    with pytest.raises(CircuitOpen):
        await executor.execute(named("a"))
    stubborn.let_go.set()
    await asyncio.gather(trial, return_exceptions=True)
    following = asyncio.ensure_future(executor.execute(named("a")))
    await stubborn.holds("a")
    stubborn.release("a")
    assert (await following).ok


@pytest.mark.one_loop
async def test_a_cancelled_command_is_no_failure():
    held = HeldExecutor()
    executor = CircuitBreaker(held, failures=1)
    running = asyncio.ensure_future(executor.execute(named("a")))
    await held.holds("a")
    await cancelled(running)
    assert executor.state("a") is CircuitState.CLOSED


def test_the_refusal_travels():
    error = CircuitOpen("no", command=named("a"), key=("a", 1), retry_after=2.5)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.command, copy.key, copy.retry_after) == ("no", named("a"), ("a", 1), 2.5)
