"""`stream`: the lines of a program in one call."""

import asyncio
from contextlib import aclosing

import pytest
from contract.support import assert_dead, helper, is_gone, returns_before_programs_end, sh

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import CommandTimeout, ConfigError, IoError, LineTooLong, NonZeroExit
from aiocmdpool.one_shot_live import stream, stream_command


async def test_lines_as_they_come(backend, ready, release):
    command = sh('echo one; echo ready >"$1"; read go <"$2"; echo two', ready.path, release.path)
    lines = stream_command(command, executor=backend)
    assert await anext(lines) == b"one"
    await ready.wait()
    release.send()
    assert [line async for line in lines] == [b"two"]


async def test_one_liner():
    assert [line async for line in stream("echo", "a\nb")] == [b"a", b"b"]
    assert [line async for line in stream("cat", stdin=b"fed\n")] == [b"fed"]
    assert [line async for line in stream("cat")] == []  # the null device


async def test_a_failure_is_raised_after_the_last_line(backend):
    seen = []

    async def read(command):
        async for line in stream_command(command, executor=backend):
            seen.append(line)  # noqa: PERF401  # those before the error

    with pytest.raises(NonZeroExit, match="exit status 3: sorry") as caught:
        await read(sh("echo out; echo sorry >&2; exit 3", check=True))
    assert (seen, caught.value.result.stderr) == ([b"out"], b"sorry\n")
    await read(sh("exit 3"))
    with pytest.raises(CommandTimeout):
        await read(CommandConfig("sleep", ["60"], timeout=0.05))
    with pytest.raises(IoError):
        await read(CommandConfig("no-such-program"))


async def test_much_on_stderr_does_not_block(backend):
    command = sh("head -c 1000000 /dev/zero >&2; echo done")
    assert [line async for line in stream_command(command, executor=backend)] == [b"done"]


async def test_leaving_the_iteration_ends_the_program(backend, ready):
    with returns_before_programs_end():
        async with aclosing(stream_command(sh("echo $$; exec sleep 60"), executor=backend)) as lines:
            async for line in lines:
                pid = int(line)
                break
        assert is_gone(pid)


async def test_a_forgotten_iteration_ends_the_program(backend):
    async for line in stream_command(sh("echo $$; exec sleep 60"), executor=backend):
        pid = int(line)
        break
    await assert_dead(pid)


async def test_cancelling_ends_the_program(backend, ready):
    async def read():
        async for _ in stream_command(helper("grandchildren", ready.path), executor=backend):
            pass

    reading = asyncio.create_task(read())
    pids = await ready.pids(4)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await assert_dead(*pids)


async def test_long_lines(backend):
    command = CommandConfig("head", ["-c", "300", "/dev/zero"])
    pieces = [line async for line in stream_command(command, executor=backend, max_line=200, long_lines="split")]
    assert list(map(len, pieces)) == [200, 100]
    with pytest.raises(LineTooLong):
        await anext(stream_command(command, executor=backend, max_line=200))


async def test_options_are_those_of_a_command():
    with pytest.raises(ConfigError, match="did you mean 'timeout'"):
        stream("true", timeuot=1)
