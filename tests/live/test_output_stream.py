"""Reading a pipe: lines of any length, pieces, and readers that leave in the middle. Without a program."""

import asyncio
import os
import random
import tracemalloc

import pytest

from aiocmdpool.commands.errors import ConfigError, LineTooLong
from aiocmdpool.live.output_stream import OutputStream
from aiocmdpool.live.pipe_end import CHUNK


@pytest.fixture
def pipe():
    """Call it for a stream, and the descriptor that feeds it."""
    made = []

    def make():
        read_end, write_end = os.pipe()
        made.append((OutputStream(read_end, "stdout", lambda: None), os.fdopen(write_end, "wb", buffering=0)))
        return made[-1]

    yield make
    for stream, writer in made:
        stream.close()
        writer.close()


async def filled(pipe, *pieces):
    stream, writer = pipe()
    for piece in pieces:
        writer.write(piece)
    writer.close()
    return stream


async def test_lines_and_a_last_one_without_an_end(pipe):
    stream = await filled(pipe, b"one\n\nthr", b"ee\nlast")
    assert [line async for line in stream] == [b"one", b"", b"three", b"last"]
    assert stream.at_end


async def test_a_reader_that_leaves_in_the_middle_takes_nothing_along(pipe):
    stream = await filled(pipe, b"one\ntwo\nthree\nfour")
    async for line in stream:
        assert line == b"one"
        break
    assert await stream.read(3) == b"two"  # at once, before the iterator is closed
    assert await stream.read_line() == b"\n"
    async for line in stream:
        assert line == b"three"
        break
    assert [line async for line in stream.lines()] == [b"four"]


async def test_all_readers_share_what_is_there(pipe):
    stream = await filled(pipe, b"ab\ncdefgh\nij\n\nkl")
    assert await stream.read_exactly(2) == b"ab"
    assert await stream.read_line() == b"\n"
    assert await anext(stream.lines()) == b"cdefgh"
    assert await stream.read_line() == b"ij\n"
    assert stream.read_now() == b"\nkl"
    with pytest.raises(EOFError):
        await stream.read_exactly(1)


async def test_what_there_was_is_kept_when_too_few_bytes_come(pipe):
    stream = await filled(pipe, b"abc")
    with pytest.raises(EOFError, match="after 3 of 4"):
        await stream.read_exactly(4)
    assert await stream.read() == b"abc"


@pytest.mark.parametrize("reader", ["read", "read_exactly", "read_line", "lines"])
async def test_a_cancelled_read_loses_nothing(pipe, reader):
    stream, writer = pipe()
    writer.write(b"begun, ")
    calls = {
        "read": stream.read,  # to the end
        "read_exactly": lambda: stream.read_exactly(100),
        "read_line": stream.read_line,
        "lines": lambda: anext(stream.lines()),
    }
    waiting = asyncio.create_task(calls[reader]())
    while stream.pipe.unread():
        await asyncio.sleep(0)
    await asyncio.sleep(0)  # now it waits for more
    assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    writer.write(b"ended\n")
    assert await stream.read_line() == b"begun, ended\n"


async def test_too_long_a_line_is_an_error_and_still_to_be_read(pipe):
    stream = await filled(pipe, b"a\nb\n" + b"x" * 50 + b"\nc\n")
    seen = []
    with pytest.raises(LineTooLong, match="longer than 49 bytes"):
        seen.extend([line async for line in stream.lines(max_line=49)])
    with pytest.raises(LineTooLong):
        await stream.read_line(49)
    assert await stream.read_line(50) == b"x" * 50 + b"\n"
    assert await stream.read() == b"c\n"


async def test_lines_before_one_that_is_too_long_are_seen(pipe):
    stream = await filled(pipe, b"a\nb\n" + b"x" * 50 + b"\nc\n")
    lines = stream.lines(max_line=49)
    assert (await anext(lines), await anext(lines)) == (b"a", b"b")
    with pytest.raises(LineTooLong):
        await anext(lines)


@pytest.mark.parametrize("seed", range(20))
async def test_split_lines_against_a_model(pipe, seed):
    dice = random.Random(seed)
    limit = dice.choice([1, 2, 7, 10])
    data = bytes(dice.choices(b"ab\n", weights=(5, 5, dice.choice([1, 4])), k=500))
    stream, writer = pipe()
    expected = []
    *whole, last = data.split(b"\n")
    for line in [*whole, *([last] if last else [])]:
        expected += [line[at : at + limit] for at in range(0, len(line), limit)] or [b""]

    async def feed():
        at = 0
        while at < len(data):
            size = dice.randrange(1, 20)
            writer.write(data[at : at + size])
            at += size
            await asyncio.sleep(0)
        writer.close()

    feeding = asyncio.create_task(feed())
    assert [line async for line in stream.lines(max_line=limit, long_lines="split")] == expected
    await feeding


async def flood(writer, count, piece=b"x" * CHUNK):
    """Write without an end of a line, as fast as it is read."""
    os.set_blocking(writer.fileno(), False)
    loop = asyncio.get_running_loop()
    left = count
    while left > 0:
        written = writer.write(piece[:left])
        left -= written or 0
        if not written:
            room = loop.create_future()
            loop.add_writer(writer.fileno(), lambda room=room: room.done() or room.set_result(None))
            await room
            loop.remove_writer(writer.fileno())
    writer.close()


@pytest.mark.parametrize("long_lines", ["split", "error"])
async def test_an_endless_line_takes_constant_memory(pipe, long_lines):
    stream, writer = pipe()
    feeding = asyncio.create_task(flood(writer, 100_000_000))
    size = 0
    tracemalloc.start()
    try:
        async for piece in stream.lines(max_line=100_000, long_lines=long_lines):
            size += len(piece)
        assert size == 100_000_000
    except LineTooLong:
        assert long_lines == "error"
        feeding.cancel()
        await asyncio.wait([feeding])
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2_000_000


async def test_text_lines(pipe):
    stream = await filled(pipe, "schön\n".encode() + b"\xff\nend")
    lines = stream.text_lines()
    assert await anext(lines) == "schön"
    with pytest.raises(UnicodeDecodeError):
        await anext(lines)
    stream = await filled(pipe, b"\xff\n")
    assert [line async for line in stream.text_lines(errors="replace")] == ["\ufffd"]


async def test_two_readers_at_once_are_refused(pipe):
    stream, writer = pipe()
    first = asyncio.create_task(stream.read(1))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="another task"):
        await stream.read(1)
    writer.write(b"x")
    assert await first == b"x"


async def test_closing_ends_a_read(pipe):
    stream, _ = pipe()
    reading = asyncio.create_task(stream.read(1))
    await asyncio.sleep(0)
    stream.close()
    assert await reading == b""


async def test_a_fast_writer_does_not_keep_the_loop_to_itself(pipe):
    stream, writer = pipe()
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    feeding = asyncio.create_task(flood(writer, 10_000_000))
    async for _ in stream.chunks():
        pass
    assert turns > 5
    counting.cancel()
    await asyncio.wait([counting, feeding])


async def test_max_line_must_be_a_length(pipe):
    stream, _ = pipe()
    with pytest.raises(ConfigError):
        await anext(stream.lines(max_line=0))
