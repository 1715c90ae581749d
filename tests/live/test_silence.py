"""`idle_timeout`: a program that says nothing, told from one that is kept waiting."""

import asyncio

import pytest
from contract.support import helper, is_gone, outcome, with_patience

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import CommandTimeout
from aiocmdpool.commands.result import EndReason

pytestmark = pytest.mark.slow


async def test_a_silent_program_is_ended(backend, ready):
    command = helper("sleep_after_ready", ready.path, idle_timeout=0.1)
    with pytest.raises(CommandTimeout, match="wrote nothing for its idle_timeout") as caught:
        async with backend.open(command) as process:
            await process.stdout.read()
    assert caught.value.end_reason is EndReason.IDLE_TIMEOUT
    assert is_gone(process.pid)


async def test_what_nobody_reads_is_no_sign_of_life_for_ever(backend, ready):
    """It writes a few bytes to both streams; then nothing."""
    async with backend.open(helper("sleep_after_ready", ready.path, idle_timeout=0.1)) as process:
        with pytest.raises(CommandTimeout):
            await process.wait()


async def test_a_program_that_waits_for_a_slow_reader_is_not_silent(backend):
    command = CommandConfig("head", ["-c", "200000", "/dev/zero"], idle_timeout=1.0)
    async with backend.open(command) as process:
        await asyncio.sleep(3.0)  # three times as long as it may be silent
        assert len(await process.stdout.read()) == 200_000
        assert await process.wait() == 0


async def test_each_word_counts(backend):
    """It speaks for longer than it may be silent, without ever being silent for so long."""
    script = 'for i in 1 2 3 4 5 6 7 8; do echo $i; sleep "$1"; done'

    async def attempt(seconds: float) -> tuple[int, object]:
        command = CommandConfig.shell(script, [f"{seconds / 7:.3f}"], idle_timeout=seconds)
        async with backend.open(command) as process:
            return len([line async for line in process.stdout]), await outcome(process.wait())

    lines, status = await with_patience(attempt, lambda seen: not isinstance(seen[1], CommandTimeout))
    assert (lines, status) == (8, 0)
