"""A line of those who wait."""

import asyncio

import pytest

from aiocmdpool.loops.line import WaitingLine


async def test_those_who_wait_go_in_the_order_in_which_they_came():
    line, gone = WaitingLine(), []

    async def wait(number: int) -> None:
        await line.wait()
        gone.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(wait(number))
        await asyncio.sleep(0)
        assert len(line.waiters) == 10
        line.wake()
    assert gone == list(range(10))
    assert not line.waiters


@pytest.mark.parametrize("wakes", ["before", "after", "not"])
async def test_who_is_cancelled_leaves_the_line_whenever_that_is(wakes):
    line = WaitingLine()
    tasks = [asyncio.ensure_future(line.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    if wakes == "before":
        line.wake()
    tasks[1].cancel()
    if wakes == "after":
        line.wake()
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    assert len(line.waiters) == (2 if wakes == "not" else 0)
    line.wake()
    await tasks[0]
    await tasks[2]
