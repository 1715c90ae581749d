"""A program that one talks to while it runs: its streams, what it was, how it ended."""

import asyncio
import os
import signal

import pytest
from contract.support import helper, is_gone, sh

from aiocmdpool.backends.workers.process_pool import ProcessPool
from aiocmdpool.commands.command import CommandConfig, Stdio
from aiocmdpool.commands.errors import CommandTimeout, NonZeroExit, PoolClosed, TaskCancelled
from aiocmdpool.commands.result import EndReason
from aiocmdpool.live.events import OutputEvent


async def test_question_and_answer(backend):
    async with backend.open(helper("echo_lines")) as process:
        for question in (b"one\n", b"two\n", b"three\n"):
            process.stdin.write(question)
            assert await process.stdout.read_line() == question.upper()
        process.stdin.close()
        assert await process.stdout.read() == b""
        assert await process.wait() == 0
    assert is_gone(process.pid)


async def test_result_is_that_of_the_command_without_output(backend):
    command = sh("read go; echo out; echo err >&2; exit 3")
    async with backend.open(command) as process:
        assert (process.returncode, "running" in repr(process)) == (None, True)
        process.stdin.write(b"go\n")
        assert (await process.stdout.read(), await process.stderr.read()) == (b"out\n", b"err\n")
        result = await process.result()
    assert result.command is command
    assert (result.returncode, result.stdout, result.stderr, result.pid) == (3, None, None, process.pid)
    assert (process.returncode, "ended with 3" in repr(process)) == (3, True)


async def test_pid_is_known_at_once(backend):
    async with backend.open(sh("echo $$")) as process:
        assert int(await process.stdout.read_line()) == process.pid


async def test_process_pool_opens_itself():
    async with ProcessPool(1) as pool, pool.open(CommandConfig("cat")) as process:
        process.stdin.write(b"x")
        assert await process.stdout.read(1) == b"x"


async def test_both_streams_in_order_of_arrival(backend, ready, release):
    script = """
        echo one; echo ready >"$1"; read go <"$2"
        echo two >&2; echo ready >"$1"; read go <"$2"
        echo three
    """
    async with backend.open(sh(script, ready.path, release.path)) as process:
        seen = []
        async for event in process.events():
            seen.append(event)
            if len(seen) < 3:
                await ready.wait()
                release.send()
        assert await process.wait() == 0
    assert seen == [OutputEvent("stdout", b"one\n"), OutputEvent("stderr", b"two\n"), OutputEvent("stdout", b"three\n")]


async def test_merged_streams_keep_the_order_of_writes(backend):
    async with backend.open(helper("merged_order", stderr=Stdio.MERGED)) as process:
        assert await process.stdout.read() == b"12344321"
        with pytest.raises(ValueError, match="goes elsewhere"):
            _ = process.stderr


async def test_streams_that_lead_elsewhere_are_no_pipes(backend, tmp_path):
    target = tmp_path / "out"
    async with backend.open(CommandConfig("cat", stdin=b"data", stdout=target, stderr=Stdio.NULL)) as process:
        with pytest.raises(ValueError, match="is no pipe"):
            _ = process.stdin
        with pytest.raises(ValueError, match="goes elsewhere"):
            _ = process.stdout
        assert await process.wait() == 0
        assert [event async for event in process.events()] == []
    assert target.read_bytes() == b"data"


async def test_empty_stdin_is_the_null_device(backend):
    async with backend.open(CommandConfig("cat", stdin=b"")) as process:
        assert await process.stdout.read() == b""
        assert await process.wait() == 0


async def test_output_can_be_read_after_the_exit(backend):
    async with backend.open(sh("echo kept; exit 2")) as process:
        assert await process.wait() == 2
        assert await process.stdout.read() == b"kept\n"


async def test_a_grandchild_that_holds_the_pipe_does_not_delay_the_end(backend, ready):
    async with backend.open(helper("hold_stdout", ready.path, 5)) as process:
        assert await process.stdout.read() == b"done"
        result = await process.result()
    assert (result.returncode, len(result.leaked)) == (5, 1)


@pytest.mark.parametrize(("method", "number"), [("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)])
async def test_signals(backend, ready, method, number):
    async with backend.open(helper("sleep_after_ready", ready.path)) as process:
        await ready.wait()
        getattr(process, method)()
        assert await process.wait() == -number
        getattr(process, method)()  # harmless now
    assert is_gone(process.pid)


async def test_large_input_and_output_at_the_same_time(backend):
    data = os.urandom(1_000_000) * 5
    async with backend.open(CommandConfig("cat")) as process:

        async def feed():
            for at in range(0, len(data), 100_000):
                process.stdin.write(data[at : at + 100_000])
                await process.stdin.drain()
            await process.stdin.aclose()

        _, echoed = await asyncio.gather(feed(), process.stdout.read())
        assert echoed == data


async def test_many_at_once(backend):
    async def talk(number):
        async with backend.open(CommandConfig("cat")) as process:
            process.stdin.write(b"%d\n" % number)
            return int(await process.stdout.read_line())

    assert await asyncio.gather(*map(talk, range(20))) == list(range(20))


async def test_timeout_is_raised_by_wait(backend):
    command = CommandConfig("sleep", ["60"], timeout=0.05)
    async with backend.open(command) as process:
        with pytest.raises(CommandTimeout) as caught:
            await process.wait()
    assert (caught.value.end_reason, caught.value.command) == (EndReason.TIMEOUT, command)
    assert process.returncode == -signal.SIGTERM


async def test_an_error_that_nobody_asked_for_is_raised_on_leaving(backend):
    with pytest.raises(CommandTimeout):
        async with backend.open(CommandConfig("sleep", ["60"], timeout=0.05)) as process:
            assert await process.stdout.read() == b""
    with pytest.raises(NonZeroExit):
        async with backend.open(sh("exit 3", check=True)) as process:
            assert await process.stdout.read() == b""


async def test_an_error_of_the_block_comes_before_that_of_the_program(backend):
    async def fail():
        async with backend.open(sh("exit 3", check=True)) as process:
            await process.stdout.read()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()


async def test_closing_the_backend_ends_it(backend):
    async def close():
        async with backend.open(CommandConfig("cat")) as process:
            await backend.aclose()
            assert await process.stdout.read() == b""

    with pytest.raises(TaskCancelled):
        await close()
    with pytest.raises(PoolClosed):
        await close()


async def test_max_output_does_not_apply_to_what_is_read_here(backend):
    async with backend.open(CommandConfig("head", ["-c", "300000", "/dev/zero"], max_output=10)) as process:
        assert len(await process.stdout.read()) == 300_000
        assert await process.wait() == 0


async def test_streams_that_are_not_to_be_pipes_are_as_in_any_run(backend):
    async with backend.open(sh("cat; echo out; echo err >&2"), streams=["stdout"]) as process:
        assert await process.stdout.read() == b"out\n"
        result = await process.result()
        with pytest.raises(ValueError, match="stderr"):
            process.stderr.read_now()
    assert result.stderr == b"err\n"
