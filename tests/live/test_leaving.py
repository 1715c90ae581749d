"""The end of a block: whatever was going on, the program is dead, reaped, and nothing stays open."""

import asyncio
import os
import signal

import pytest
from contract.support import assert_dead, helper, is_gone, outcome, returns_before_programs_end, sh

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import IoError, StdinClosed, TaskCancelled


async def test_leaving_ends_the_whole_tree(backend, ready):
    with returns_before_programs_end():
        async with backend.open(helper("grandchildren", ready.path)) as process:
            pids = await ready.pids(4)
        await assert_dead(*pids)
        with pytest.raises(TaskCancelled):
            await process.result()
    assert process.returncode == -signal.SIGTERM


async def test_leaving_kills_what_ignores_the_stop_signal(backend, ready):
    async with backend.open(helper("ignore_sigterm", ready.path, grace=0.05)) as process:
        await ready.wait()
    assert (process.returncode, is_gone(process.pid)) == (-signal.SIGKILL, True)


async def test_leaving_lets_a_program_finish_its_last_words(backend, ready, tmp_path):
    """It writes more than a pipe holds when it is asked to end: it must neither hang nor die of that."""
    script = """
        trap 'head -c 300000 /dev/zero && echo done >"$2"; kill $!; exit 0' TERM
        # a sleep that was started after the TERM would use up the grace
        echo ready >"$1"; while :; do sleep 60 & wait; done
    """
    words = tmp_path / "words"
    async with backend.open(sh(script, ready.path, str(words), grace=20)) as process:
        await ready.wait()
    assert (process.returncode, words.read_text()) == (0, "done\n")


async def test_leaving_is_not_cut_short_by_cancellations(backend, ready):
    entered = asyncio.Event()

    async def use():
        async with backend.open(helper("ignore_sigterm", ready.path, grace=0.3)) as process:
            pids.append(process.pid)
            entered.set()
            await asyncio.sleep(60)

    pids: list[int] = []
    task = asyncio.create_task(use())
    await entered.wait()
    await ready.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert is_gone(pids[0])


@pytest.mark.parametrize("turns", range(12))
async def test_entering_can_be_cancelled_at_any_turn(backend, turns):
    async def use():
        async with backend.open(CommandConfig("sleep", ["60"])):
            await asyncio.sleep(60)

    task = asyncio.create_task(use())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with returns_before_programs_end(), pytest.raises(asyncio.CancelledError):
        await task


WAITS = {
    "read": lambda process: process.stdout.read(),
    "some": lambda process: process.stdout.read(10),
    "exactly": lambda process: process.stdout.read_exactly(10),
    "line": lambda process: process.stdout.read_line(),
    "next line": lambda process: anext(process.stdout.lines()),
    "events": lambda process: anext(process.events()),
    "drain": lambda process: full_drain(process),
    "wait": lambda process: process.wait(),
}


async def full_drain(process):
    process.stdin.write(bytes(1_000_000))
    await process.stdin.drain()


@pytest.mark.parametrize("name", WAITS)
async def test_each_wait_can_be_cancelled(backend, ready, name):
    async with backend.open(helper("sleep_after_ready", ready.path)) as process:
        await ready.wait()
        assert (await process.stdout.read(5), await process.stderr.read(6)) == (b"ready", b"so far")
        waiting = asyncio.create_task(WAITS[name](process))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not is_gone(process.pid)
    assert is_gone(process.pid)


async def test_a_block_can_be_left_while_others_wait(backend, ready):
    async with backend.open(helper("sleep_after_ready", ready.path)) as process:
        await ready.wait()
        waits = [asyncio.create_task(WAITS[name](process)) for name in ("read", "drain", "wait")]
        for _ in range(3):
            await asyncio.sleep(0)
    read, drained, waited = [await outcome(wait) for wait in waits]
    assert read == b"ready"
    assert drained is None or isinstance(drained, StdinClosed)
    assert isinstance(waited, TaskCancelled)


async def test_failures_to_start_are_raised_on_entering(backend, tmp_path):
    await backend.execute(CommandConfig("true"))  # the workers are there
    before = len(os.listdir("/proc/self/fd"))
    for command in (CommandConfig("no-such-program"), CommandConfig("true", cwd=tmp_path / "missing")):
        with pytest.raises(IoError) as caught:
            async with backend.open(command):
                pytest.fail("it was entered")
        assert caught.value.command is command
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_reader_that_leaves_early_ends_the_program(backend):
    async with backend.open(CommandConfig("yes")) as process:
        assert await process.stdout.read_line() == b"y\n"
        process.stdout.close()
        assert await process.wait() == -signal.SIGPIPE


async def test_writing_to_a_dead_program_is_a_named_error(backend):
    async with backend.open(CommandConfig("true")) as process:
        await process.wait()
        process.stdin.write(b"x")  # this is what shows it
        with pytest.raises(StdinClosed, match="reads its stdin no more"):
            process.stdin.write(b"x")
        with pytest.raises(BrokenPipeError):
            await process.stdin.drain()


async def test_a_program_that_dies_while_much_is_to_be_written(backend, ready):
    async with backend.open(helper("sleep_after_ready", ready.path)) as process:
        await ready.wait()
        process.stdin.write(bytes(1_000_000))
        drain = asyncio.create_task(process.stdin.drain())
        await asyncio.sleep(0)
        process.kill()
        with pytest.raises(StdinClosed):
            await drain


async def test_a_program_that_closes_its_stdin_early(backend, ready, release):
    async with backend.open(helper("close_stdin_early", ready.path, release.path)) as process:
        await ready.wait()
        process.stdin.write(b"x")
        with pytest.raises(StdinClosed):
            process.stdin.write(b"x")
        release.send()
        assert await process.stdout.read() == b"fine"
        assert await process.wait() == 0


async def test_writing_after_close_is_a_named_error(backend):
    async with backend.open(CommandConfig("cat")) as process:
        process.stdin.close()
        with pytest.raises(StdinClosed, match="was closed"):
            process.stdin.write(b"x")


async def test_a_program_that_closes_its_output_and_lives_on(backend, ready, release):
    async with backend.open(helper("close_pipes_live_on", ready.path, release.path)) as process:
        await ready.wait()
        assert [event.data async for event in process.events()] == [b"bye"]
        assert process.returncode is None
        release.send()
        assert await process.wait() == 9


async def test_a_program_that_is_asked_to_end_at_once_hears_it(backend):
    """Just after a fork there is no process group yet, and the child ignores what its worker ignores."""
    ends = set()
    for _ in range(100):
        async with backend.open(CommandConfig("sleep", ["60"], niceness=1, grace=20)) as process:
            pass
        ends.add(process.returncode)
    assert ends == {-signal.SIGTERM}
