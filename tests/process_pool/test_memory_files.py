"""Large output on its way from a worker: held once, read by threads of our own, and not closed beneath them."""

import asyncio
import errno
import functools
import mmap
import os
import threading

import anyio
import anyio.to_thread
import pytest
from contract.support import helper, pattern

from aiocmdpool.backends.workers import reply
from aiocmdpool.commands.command import OutputPolicy
from aiocmdpool.commands.errors import IoError
from aiocmdpool.loops import threads
from aiocmdpool.loops.threads import in_thread

from .support import PATIENCE, in_background

pytestmark = pytest.mark.one_loop("asyncio", "uvloop")  # debug mode shows nothing new here

SIZE = 9_000_001  # bytes; more than is copied in one piece
needs_memory_files = pytest.mark.skipif(
    not hasattr(os, "memfd_create") or not hasattr(mmap, "MADV_REMOVE"), reason="no memory files with holes here"
)


@pytest.fixture
def memory_file():
    fd = os.memfd_create("test")
    os.write(fd, pattern(SIZE))
    yield fd
    os.close(fd)


@needs_memory_files
@pytest.mark.parametrize("start", [0, 1, mmap.PAGESIZE, 5_000_000, SIZE - 1])
def test_what_has_been_copied_out_of_a_memory_file_is_given_back(memory_file, start):
    data = pattern(SIZE)
    assert reply._copy(memory_file, SIZE, start) == data[start:] + data[:start]
    assert os.fstat(memory_file).st_blocks * 512 < 3 * reply.GIVE_BACK


@needs_memory_files
def test_while_it_is_copied_it_is_held_once(memory_file, monkeypatch):
    """Of what is in the file and what has been copied, no more than a few slices is in both."""
    most = 0
    give_back = reply._Pages.give_back

    def looking(pages, begin: int, end: int) -> int:
        nonlocal most
        most = max(most, os.fstat(memory_file).st_blocks * 512 + end)
        return give_back(pages, begin, end)

    monkeypatch.setattr(reply._Pages, "give_back", looking)
    reply._copy(memory_file, SIZE, 0)
    assert SIZE <= most < SIZE + 2 * reply.GIVE_BACK


@needs_memory_files
def test_where_pages_cannot_be_given_back_all_the_same_arrives(memory_file, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(mmap, "mmap", refuse)
    assert reply._copy(memory_file, SIZE, 0) == pattern(SIZE)


async def test_a_large_tail_arrives_in_order(new_pool):
    pool = new_pool(1)
    for written, limit in ((2 * SIZE, SIZE), (SIZE + 1, SIZE), (SIZE, SIZE), (300_001, 100_000)):
        options = {"output_policy": OutputPolicy.KEEP_TAIL, "max_output": limit}
        result = await pool.execute(helper("write_n_bytes", written, "both", **options))
        assert result.stdout == result.stderr == pattern(written)[-limit:]
        assert result.truncated == (written > limit)


async def test_large_output_does_not_wait_for_threads_that_callers_hold(new_pool):
    pool = new_pool(1)
    limiter = anyio.to_thread.current_default_thread_limiter()
    holders = [object() for _ in range(int(limiter.total_tokens))]
    for holder in holders:
        limiter.acquire_on_behalf_of_nowait(holder)
    try:
        async with asyncio.timeout(PATIENCE):
            assert (await pool.execute(helper("write_n_bytes", 2_000_000))).stdout == pattern(2_000_000)
    finally:
        for holder in holders:
            limiter.release_on_behalf_of(holder)


async def test_a_cancelled_caller_does_not_close_what_is_being_read(new_pool, monkeypatch):
    pool = new_pool(1)
    reading: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    go_on = threading.Event()
    copy = reply._copy

    def slowly(fd: int, size: int, start: int) -> bytes:
        reading.get_loop().call_soon_threadsafe(reading.set_result, fd)
        go_on.wait(PATIENCE)
        assert copy(fd, size, start) == pattern(2_000_000)
        return b"read"

    monkeypatch.setattr(reply, "_copy", slowly)
    [run] = in_background(pool, helper("write_n_bytes", 2_000_000))
    fd = await reading
    for _ in range(3):
        run.cancel()
        await asyncio.sleep(0)
    os.fstat(fd)
    assert not run.done()
    go_on.set()
    assert isinstance(await run, asyncio.CancelledError)


async def test_no_memory_for_large_output_is_an_error_of_its_command(new_pool, monkeypatch):
    pool = new_pool(1, max_output_total=9_000_000)

    def refuse(*_: object) -> bytes:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(reply, "_copy", refuse)
        with pytest.raises(IoError, match="no memory left") as caught:
            await pool.execute(helper("write_n_bytes", 2_000_000, "both"))
    assert caught.value.errno == errno.ENOMEM
    assert pool._ledger.held() == 0
    assert (await pool.execute(helper("write_n_bytes", 2_000_000))).stdout == pattern(2_000_000)


async def test_a_call_that_waits_for_a_thread_can_be_cancelled():
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    go_on = threading.Event()
    called = []

    def hold() -> None:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(PATIENCE)

    limiter = anyio.CapacityLimiter(1)
    threads._limiter.set(limiter)
    holding = asyncio.ensure_future(in_thread(hold))
    await begun.wait()
    waiting = asyncio.ensure_future(in_thread(functools.partial(called.append, 1)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go_on.set()
    await holding
    assert not called


async def test_what_a_call_in_a_thread_raises_is_raised_here():
    def fail() -> None:
        raise LookupError("of the function")

    with pytest.raises(LookupError, match="of the function"):
        await in_thread(fail)
    assert await in_thread(lambda: 5) == 5
