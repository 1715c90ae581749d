"""One captured stream in the worker: what is kept of it, and where."""

import contextlib
import errno
import os
import resource
import struct
from collections.abc import Callable, Iterator

import pytest
from contract.support import pattern

from aiocmdpool.standalone.loop.poller import Poller
from aiocmdpool.standalone.wire import messages
from aiocmdpool.standalone.wire.messages import FAIL, KEEP_HEAD, KEEP_TAIL
from aiocmdpool.standalone.worker import budget, output
from aiocmdpool.standalone.worker.output import INLINE, Output

UNLIMITED = -1


@pytest.fixture(params=["splice", "no splice"])
def splicing(request, monkeypatch) -> bool:
    """With splice(2) and without, as on systems that have none."""
    wanted = request.param == "splice"
    if wanted and not output.SPLICE:
        pytest.skip("no splice(2) here")
    monkeypatch.setattr(output, "SPLICE", wanted)
    return wanted


@pytest.fixture
def capture(splicing) -> Callable[..., Output]:
    """Call it with what a program writes, a limit and a policy; gives the `Output` that has read it to its end."""
    made = []

    def run(data: bytes, limit: int = UNLIMITED, policy: int = FAIL, *, chunk: int = 50_000) -> Output:
        read_end, write_end = os.pipe()
        os.set_blocking(read_end, False)
        stream = Output(read_end, limit, policy)
        made.append(stream)
        for place in range(0, len(data), chunk):
            piece = data[place : place + chunk]
            assert os.write(write_end, piece) == len(piece)  # no more than an empty pipe takes
            while stream.read():
                pass
            assert not stream.ended
        os.close(write_end)
        while stream.read():
            pass
        assert stream.ended
        return stream

    yield run
    for stream in made:
        stream.close()
        if stream.spool >= 0:
            os.close(stream.spool)


def poured(stream: Output) -> bytes:
    """What the parent gets of output that is in no file, with its size as it is told."""
    size, start = messages.unpack_spool(stream.result())
    poller, data, over = Poller(), b"", []
    pour = stream.pour(poller, over.append)
    os.set_blocking(stream.spool, False)
    while True:
        try:
            piece = os.read(stream.spool, 100_000)
        except BlockingIOError:
            poller.dispatch(10)
            continue
        if not piece:
            break
        data += piece
    assert (over, size, start) == ([pour], len(data), 0)
    return data


def kept(stream: Output) -> bytes:
    """What was kept, from where it is."""
    inline = stream.result()
    if not stream.is_large:
        return inline
    if stream.spool < 0:
        return poured(stream)
    size, start = messages.unpack_spool(inline)
    assert os.fstat(stream.spool).st_size == size
    return os.pread(stream.spool, size - start, start) + os.pread(stream.spool, start, 0)


@pytest.mark.parametrize("policy", [FAIL, KEEP_HEAD, KEEP_TAIL])
@pytest.mark.parametrize("size", [INLINE, INLINE + 1, 1_000_000])
@pytest.mark.parametrize("largest_file", [0, 100_000])
def test_where_no_file_may_be_that_large_output_is_poured_through_a_pipe(
    capture, monkeypatch, largest_file, size, policy
):
    monkeypatch.setattr(output, "LARGEST_FILE", largest_file)
    for limit in (UNLIMITED, size):
        assert kept(capture(pattern(size), limit, policy)) == pattern(size)
    stream = capture(pattern(size), size - 1, policy)
    assert kept(stream) == (pattern(size)[1:] if policy == KEEP_TAIL else pattern(size)[:-1])
    assert (stream.truncated, stream.exceeded) == (True, policy == FAIL)


def test_who_reads_no_more_ends_a_pour(capture, monkeypatch):
    monkeypatch.setattr(output, "LARGEST_FILE", 0)
    stream, poller, over = capture(pattern(300_000), UNLIMITED, FAIL), Poller(), []
    pour = stream.pour(poller, over.append)
    stream.drop()
    poller.dispatch(10)
    assert over == [pour]


@pytest.mark.parametrize("policy", [FAIL, KEEP_HEAD, KEEP_TAIL])
@pytest.mark.parametrize("size", [0, 1, INLINE - 1, INLINE, INLINE + 1, 2 * INLINE, 1_000_000])
def test_all_of_the_output_is_kept_below_the_limit(capture, size, policy):
    for limit in (UNLIMITED, size, size + 1):
        stream = capture(pattern(size), limit, policy)
        assert kept(stream) == pattern(size)
        assert (stream.truncated, stream.exceeded, stream.error) == (False, False, 0)


@pytest.mark.parametrize("size", [INLINE - 1, INLINE, INLINE + 1])
def test_only_what_is_too_large_for_the_reply_goes_to_a_spool(capture, size):
    for policy in (FAIL, KEEP_HEAD, KEEP_TAIL):
        stream = capture(pattern(size), size, policy)
        stream.result()
        assert (stream.spool >= 0) == (size > INLINE)


@pytest.mark.parametrize("limit", [0, 1, 1000, INLINE - 1, INLINE, INLINE + 1, 300_000])
@pytest.mark.parametrize("beyond", [1, 70_000])
@pytest.mark.parametrize("policy", [FAIL, KEEP_HEAD])
def test_at_the_limit_the_head_is_kept(capture, limit, beyond, policy):
    stream = capture(pattern(limit + beyond), limit, policy)
    assert kept(stream) == pattern(limit)
    assert stream.truncated
    assert stream.exceeded == (policy == FAIL)


@pytest.mark.parametrize("limit", [0, 1, 1000, INLINE - 1, INLINE, INLINE + 1, 300_000])
@pytest.mark.parametrize("beyond", [1, 70_000, 1_000_000])
def test_at_the_limit_the_tail_is_kept(capture, limit, beyond):
    data = pattern(limit + beyond)
    stream = capture(data, limit, KEEP_TAIL)
    assert kept(stream) == data[len(data) - limit :]
    assert (stream.truncated, stream.exceeded) == (True, False)


def test_the_tail_is_held_in_bounded_memory(capture):
    stream = capture(pattern(3_000_000), 10_000, KEEP_TAIL, chunk=5_000)
    assert sum(map(len, stream._chunks)) <= 20_000
    assert len(kept(stream)) == 10_000


@pytest.fixture
def ledger(tmp_path, monkeypatch) -> Callable[[], int]:
    """A budget of 300,000 bytes, and another worker that has put in 100,000; call it for what this one has put in."""
    file = os.open(tmp_path / "ledger", os.O_RDWR | os.O_CREAT)
    os.pwrite(file, struct.pack("=5q", 300_000, 0, 5, 100_000, 0), 0)
    monkeypatch.setattr(budget, "ledger", file)
    monkeypatch.setattr(budget, "own_word", 4)
    monkeypatch.setattr(budget, "_mapped", None)
    yield lambda: struct.unpack("=5q", os.pread(file, 40, 0))[4]
    os.close(file)


@pytest.mark.parametrize("limit", [UNLIMITED, 200_001, 1_000_000])
@pytest.mark.parametrize("policy", [FAIL, KEEP_HEAD, KEEP_TAIL])
def test_what_is_left_of_the_budget_is_the_limit(capture, ledger, limit, policy):
    data = pattern(500_000)
    stream = capture(data, limit, policy)
    assert kept(stream) == (data[-200_000:] if policy == KEEP_TAIL else data[:200_000])
    assert (stream.truncated, stream.exceeded) == (True, policy == FAIL)
    assert ledger() == 200_000


@pytest.mark.parametrize("policy", [FAIL, KEEP_HEAD, KEEP_TAIL])
def test_where_nothing_is_left_what_fits_into_the_reply_is_kept(capture, ledger, policy):
    budget.add(190_000)
    data = pattern(500_000)
    stream = capture(data, UNLIMITED, policy)
    assert stream.spool == -1
    assert kept(stream) == (data[-INLINE:] if policy == KEEP_TAIL else data[:INLINE])
    assert (stream.truncated, stream.exceeded) == (True, policy == FAIL)
    assert ledger() == 190_000


@pytest.mark.parametrize("policy", [FAIL, KEEP_HEAD, KEEP_TAIL])
def test_its_own_limit_is_kept_below_that_of_the_budget(capture, ledger, policy):
    assert len(kept(capture(pattern(500_000), 150_000, policy))) == 150_000
    assert ledger() == 150_000


def test_workers_that_come_later_count_as_well(capture, ledger):
    budget.add(1)
    os.pwrite(budget.ledger, struct.pack("=7q", 300_000, 0, 7, 0, 1, 0, 150_000), 0)  # the pool has made it longer
    assert budget.left(200_000) == 149_999


def test_a_budget_that_cannot_be_looked_at_is_an_error_and_no_end_of_the_output(splicing, ledger):
    """It has become longer, and there is no descriptor to map it again."""
    read_end, write_end = os.pipe()
    stream = Output(read_end, UNLIMITED, FAIL)
    try:
        for _ in range(2):
            os.write(write_end, pattern(50_000))
            stream.read()
        os.pwrite(budget.ledger, struct.pack("=3q", 300_000, 0, 7), 0)
        os.write(write_end, pattern(50_000))
        with no_free_descriptors():
            stream.read()
        assert (stream.error, stream.is_large) == (errno.EMFILE, True)
        assert stream.ended == splicing  # nothing was read, and the loop would be told of it again and again
    finally:
        os.close(write_end)
        stream.close()
        stream.drop()


@contextlib.contextmanager
def no_free_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_tail_takes_no_more_than_its_limit_of_memory(capture, ledger):
    stream = capture(pattern(3_000_000), 100_000, KEEP_TAIL)
    assert os.fstat(stream.spool).st_size == 100_000
    assert kept(stream) == pattern(3_000_000)[-100_000:]


@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_small_writes_are_kept_in_order(capture, chunk):
    size = INLINE + 500 if chunk > 1 else 3000
    assert kept(capture(pattern(size), chunk=chunk)) == pattern(size)


def test_nothing_to_read_is_no_end(splicing):
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    stream = Output(read_end, UNLIMITED, FAIL)
    assert not stream.read()
    assert not stream.read(drain=True)
    assert not stream.ended
    os.write(write_end, b"late")
    assert stream.read(drain=True)
    assert not stream.ended
    os.close(write_end)
    assert not stream.read()
    assert stream.ended
    assert stream.result() == b"late"
    stream.close()


def test_draining_reads_what_is_there_without_splice(splicing, monkeypatch):
    """Before Linux 5.1 splice(2) waits on a pipe in non-blocking mode; after an exit nobody may wait."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    stream = Output(read_end, UNLIMITED, FAIL)
    data = pattern(INLINE + 50_000)
    os.write(write_end, data[:INLINE])
    assert stream.read()
    os.write(write_end, data[INLINE:])
    assert stream.read()
    assert stream.spool >= 0
    if splicing:
        monkeypatch.setattr(os, "splice", lambda *_: pytest.fail("it would wait"))
    os.write(write_end, b"rest")
    while stream.read(drain=True):
        pass
    assert not stream.ended
    assert os.pread(stream.spool, 1 << 20, 0) == data + b"rest"
    os.close(write_end)
    os.close(stream.spool)
    stream.close()


def test_large_output_is_spliced_past_the_worker(capture, splicing, monkeypatch):
    if not splicing:
        pytest.skip("it is about splice")
    read = os.read
    through = []

    def counting(fd: int, count: int) -> bytes:
        data = read(fd, count)
        through.append(len(data))
        return data

    monkeypatch.setattr(os, "read", counting)
    assert kept(capture(pattern(2_000_000))) == pattern(2_000_000)
    assert sum(through) < 200_000


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOSPC])
def test_a_spool_that_cannot_be_opened_is_told(capture, monkeypatch, number):
    def refuse() -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(output, "open_spool", refuse)
    stream = capture(pattern(INLINE + 1))
    assert stream.error == number
    tail = capture(pattern(2 * INLINE), INLINE + 1, KEEP_TAIL)
    assert tail.error == number


def test_a_spool_that_cannot_be_written_is_told(splicing, monkeypatch):
    monkeypatch.setattr(output, "open_spool", lambda: os.open("/dev/full", os.O_RDWR))
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    stream = Output(read_end, UNLIMITED, FAIL)
    for _ in range(2):
        os.write(write_end, pattern(50_000))
        stream.read()
    assert stream.error == errno.ENOSPC
    os.write(write_end, b"more")
    stream.read()
    assert stream.error
    os.close(stream.spool)
    stream.close()
    os.close(write_end)


def test_closing_is_harmless_when_repeated(splicing):
    read_end, write_end = os.pipe()
    stream = Output(read_end, UNLIMITED, FAIL)
    stream.close()
    assert stream.fd == -1
    other = os.dup(write_end)  # takes the number that has become free
    stream.close()
    os.fstat(other)
    os.close(other)
    os.close(write_end)


def test_a_spool_without_memory_files_is_a_file_without_a_name(monkeypatch):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    spool = output.open_spool()
    os.write(spool, b"abc")
    assert os.pread(spool, 10, 0) == b"abc"
    assert os.fstat(spool).st_nlink == 0
    assert not os.get_inheritable(spool)
    os.close(spool)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no memory files here")
@pytest.mark.parametrize(("number", "is_made"), [(errno.EPERM, True), (errno.EACCES, True), (errno.EMFILE, False)])
def test_a_spool_is_a_file_where_memory_files_are_forbidden(monkeypatch, number, is_made):
    def refuse(*args: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "memfd_create", refuse)
    if not is_made:
        with pytest.raises(OSError, match=os.strerror(number)):
            output.open_spool()
        return
    spool = output.open_spool()
    try:
        assert os.fstat(spool).st_nlink == 0
    finally:
        os.close(spool)
