"""`Retry`: when a command is tried again, what the caller gets in the end, and what a cancellation leaves."""

import asyncio
import contextlib
import gc
import weakref

import pytest
from contract.support import helper, is_gone, sh
from hypothesis import given, settings
from hypothesis import strategies as st
from pool.support import HeldExecutor, named, quiet, result_of

from aiocmdpool import (
    CommandPool,
    CommandTimeout,
    IoError,
    NonZeroExit,
    PoolClosed,
    ProcessBackend,
    TaskCancelled,
)
from aiocmdpool.policies import Backoff, Retry

from .support import Scripted, cancelled, in_fake_time, now

NO_PAUSE = Backoff(0)
PAUSE_FOREVER = Backoff(3600, maximum=3600)


def fails_until(run, counter, **options):
    """A program that succeeds at its n-th run."""
    script = 'echo run >> "$1"; test $(wc -l < "$1") -ge "$2" || { echo "not yet" >&2; exit 7; }'
    return sh(script, str(counter), str(run), **options)


def runs(counter):
    return len(counter.read_text().splitlines())


# -- with real commands ------------------------------------------------------------------------------------------------


async def test_a_command_is_run_until_it_succeeds(tmp_path):
    counter = tmp_path / "runs"
    async with ProcessBackend() as backend:
        result = await Retry(backend, attempts=5, backoff=NO_PAUSE).execute(fails_until(3, counter))
    assert result.ok
    assert runs(counter) == 3


async def test_the_last_result_is_what_the_caller_gets(tmp_path):
    counter = tmp_path / "runs"
    async with ProcessBackend() as backend:
        result = await Retry(backend, attempts=2, backoff=NO_PAUSE).execute(fails_until(3, counter))
    assert result.returncode == 7
    assert runs(counter) == 2


async def test_the_last_error_tells_of_the_attempts_before(tmp_path):
    counter = tmp_path / "runs"
    async with ProcessBackend() as backend:
        with pytest.raises(NonZeroExit) as caught:
            await Retry(backend, attempts=3, backoff=NO_PAUSE).execute(fails_until(4, counter, check=True))
    first, second = caught.value.__notes__
    assert first.startswith("attempt 1 of 3: NonZeroExit: ")
    assert second.startswith("attempt 2 of 3: ")
    assert "exit status 7: not yet; again after 0.00 s" in first


async def test_a_command_that_runs_too_long_is_tried_again():
    async with ProcessBackend() as backend:
        with pytest.raises(CommandTimeout) as caught:
            await Retry(backend, attempts=2, backoff=NO_PAUSE).execute(sh("sleep 60", timeout=0.05))
    assert len(caught.value.__notes__) == 1


async def test_a_program_that_does_not_exist_is_not_looked_for_twice(tmp_path):
    attempts = []
    async with ProcessBackend() as backend:
        with pytest.raises(IoError) as caught:
            await Retry(backend, on_retry=attempts.append).execute(named(tmp_path / "nothing"))
    assert not hasattr(caught.value, "__notes__")
    assert attempts == []


async def test_cancelling_an_attempt_ends_the_program_and_no_other_follows(ready):
    async with ProcessBackend() as backend:
        executor = Retry(backend, attempts=5, backoff=NO_PAUSE)
        running = asyncio.ensure_future(executor.execute(helper("sleep_after_ready", ready.path)))
        pid = int(await ready.wait())
        await cancelled(running)
        assert is_gone(pid)
    assert ready.heard() == []


async def test_cancelling_a_pause_leaves_at_once(tmp_path):
    counter = tmp_path / "runs"
    paused = asyncio.Event()
    async with ProcessBackend() as backend:
        executor = Retry(backend, backoff=PAUSE_FOREVER, on_retry=lambda attempt: paused.set())
        running = asyncio.ensure_future(executor.execute(fails_until(9, counter)))
        await paused.wait()
        await asyncio.sleep(0)
        assert "1 pausing" in repr(executor)
        await cancelled(running)
    assert "0 pausing" in repr(executor)
    assert runs(counter) == 1


async def test_a_pool_cancels_a_task_in_its_pause():
    paused = asyncio.Event()
    async with ProcessBackend() as backend:
        executor = Retry(backend, backoff=PAUSE_FOREVER, on_retry=lambda attempt: paused.set())
        async with CommandPool(executor=executor) as pool:
            handle = await pool.push_task(named("false"))
            await paused.wait()
            handle.cancel()
            with pytest.raises(TaskCancelled):
                await handle


async def test_a_closed_executor_is_not_tried_again():
    backend = ProcessBackend()
    await backend.aclose()
    with pytest.raises(PoolClosed) as caught:
        await Retry(backend, retry_if=lambda outcome: True, backoff=PAUSE_FOREVER).execute(named("true"))
    assert not hasattr(caught.value, "__notes__")


async def test_an_executor_closed_in_a_pause_is_the_end_and_the_error_tells_how_it_came():
    backend, closing = ProcessBackend(), []
    executor = Retry(
        backend, backoff=0.05, on_retry=lambda attempt: closing.append(asyncio.ensure_future(backend.aclose()))
    )
    with pytest.raises(PoolClosed) as caught:
        await executor.execute(named("false"))
    await closing[0]
    [note] = caught.value.__notes__
    assert note.startswith("attempt 1 of 3: exit status 1 after")


async def test_an_executor_closed_in_an_attempt_is_the_end(ready):
    async with ProcessBackend() as backend:
        executor = Retry(backend, retry_if=lambda outcome: True, backoff=PAUSE_FOREVER)
        running = asyncio.ensure_future(executor.execute(helper("sleep_after_ready", ready.path)))
        await ready.wait()
    with pytest.raises(TaskCancelled):
        await running


async def test_what_a_descriptor_has_given_once_is_not_asked_for_again(tmp_path):
    (tmp_path / "input").write_bytes(b"only once")
    attempts = []
    with open(tmp_path / "input", "rb") as file:
        async with ProcessBackend() as backend:
            executor = Retry(backend, backoff=NO_PAUSE, on_retry=attempts.append)
            result = await executor.execute(sh("cat; exit 1", stdin=file.fileno()))
    assert (result.stdout, result.returncode, attempts) == (b"only once", 1, [])


# -- when --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backoff", "starts"),
    [
        (Backoff(0.5, jitter=0), [0, 0.5, 1.5, 3.5, 7.5]),
        (Backoff(1, factor=10, maximum=20, jitter=0), [0, 1, 11, 31, 51]),
        (2, [0, 2, 4, 6, 8]),
        (0, [0, 0, 0, 0, 0]),
    ],
)
@in_fake_time
async def test_pauses_are_as_asked_for(backoff, starts):
    inner = Scripted(1)
    await Retry(inner, attempts=5, backoff=backoff).execute(named("a"))
    assert inner.starts == starts


@given(
    initial=st.floats(0, 1e6),
    factor=st.floats(1, 1e6),
    maximum=st.floats(0, 1e6),
    jitter=st.floats(0, 1),
    number=st.integers(1, 100_000),
)
@settings(deadline=None)
def test_a_pause_is_never_longer_than_asked_for_nor_shorter_than_the_jitter_allows(
    initial, factor, maximum, jitter, number
):
    longest = Backoff(initial, factor=factor, maximum=maximum, jitter=0).pause(number)
    assert longest <= maximum
    assert longest >= min(initial, maximum)
    pause = Backoff(initial, factor=factor, maximum=maximum, jitter=jitter).pause(number)
    assert longest * (1 - jitter) * (1 - 1e-9) <= pause <= longest


@in_fake_time
async def test_commands_that_failed_together_do_not_come_back_together():
    inner = Scripted(1)
    executor = Retry(inner, attempts=2, backoff=Backoff(100, maximum=100))
    await asyncio.gather(*[executor.execute(named(number)) for number in range(20)])
    assert inner.starts[:20] == [0] * 20
    assert len(set(inner.starts[20:])) > 15


@pytest.mark.parametrize(("deadline", "attempts"), [(0, 1), (0.9, 1), (1.1, 2), (3.2, 4), (100, 5)])
@in_fake_time
async def test_no_attempt_begins_after_the_deadline(deadline, attempts):
    inner = Scripted(NonZeroExit("7"), takes=0.0)
    with pytest.raises(NonZeroExit) as caught:
        await Retry(inner, attempts=5, backoff=1, deadline=deadline).execute(named("a"))
    assert len(inner.starts) == attempts
    said = f"attempt {attempts + 1} would begin after the deadline of {deadline:g} s"
    assert (said in getattr(caught.value, "__notes__", ())) is (attempts < 5)


@in_fake_time
async def test_an_attempt_that_runs_at_the_deadline_is_left_alone():
    began = now()
    assert (await Retry(Scripted(0, takes=50), deadline=10).execute(named("a"))).ok
    assert now() - began >= 50


# -- what else is told, and kept ---------------------------------------------------------------------------------------


@in_fake_time
async def test_each_attempt_that_is_followed_by_another_is_told():
    told = []
    command = named("a")
    await Retry(Scripted(1, 2, 3), backoff=1, on_retry=told.append).execute(command)
    assert [(attempt.number, attempt.outcome.returncode, attempt.pause) for attempt in told] == [(1, 1, 1), (2, 2, 1)]
    assert all(attempt.command is command for attempt in told)


@in_fake_time
async def test_who_is_told_cannot_break_a_run(caplog):
    def clumsy(attempt):
        raise RuntimeError("clumsy")

    assert (await Retry(Scripted(1, 0), on_retry=clumsy).execute(named("a"))).ok
    assert "clumsy" in caplog.text


@in_fake_time
async def test_nothing_of_a_failed_attempt_is_kept():
    """Nor of the last: outputs may be large, and a cycle would keep them until a garbage collection."""
    failures, alive = [], []

    def fail(command):
        alive.append(sum(failure() is not None for failure in failures))
        error = NonZeroExit("7", result=result_of(command, returncode=7))
        failures.append(weakref.ref(error))
        return error

    gc.disable()
    try:
        with contextlib.suppress(NonZeroExit):
            await Retry(Scripted(fail)).execute(named("a"))
        assert alive == [0, 0, 0]
        assert [failure() for failure in failures] == [None] * 3
    finally:
        gc.enable()


@pytest.mark.one_loop
async def test_a_cancelled_attempt_is_not_an_outcome():
    held = HeldExecutor()
    asked = []
    running = asyncio.ensure_future(Retry(held, retry_if=lambda outcome: asked.append(outcome)).execute(named("a")))
    await held.holds("a")
    await cancelled(running)
    await quiet()
    assert (asked, held.started) == ([], ["a"])
