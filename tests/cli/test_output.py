"""What is written, in which order, and how it waits for slow readers: lines, order, the queue, the progress bar."""

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aiocmdpool.cli.output.writer as cli_output
from aiocmdpool.cli.output.last_line import WIPE, LastLine
from aiocmdpool.cli.output.lines import Lines, Tagger
from aiocmdpool.cli.output.order import MAX_HELD_LIVE, OutputOrder
from aiocmdpool.cli.output.progress import Snapshot, progress_text
from aiocmdpool.cli.output.spool import IN_MEMORY, Spool
from aiocmdpool.cli.output.stream import DRAIN_TIMEOUT, OutputStream
from aiocmdpool.cli.output.writer import HIGH_WATER, LOW_WATER, STDERR, Output


class Pipe:
    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        os.set_blocking(self.read_end, False)

    def read(self) -> bytes:
        try:
            return os.read(self.read_end, 1024 * 1024)
        except BlockingIOError:
            return b""

    async def read_all(self, size: int) -> bytes:
        got = b""
        async with asyncio.timeout(10):
            while len(got) < size:
                got += self.read()
                await asyncio.sleep(0)
        return got


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    for fd in (pipe.read_end, pipe.write_end):
        try:
            os.close(fd)
        except OSError:
            continue  # the test closed it


def read(pieces: list[Spool]) -> bytes:
    return b"".join(piece for spool in pieces for piece in spool.pieces())


@given(data=st.lists(st.binary(max_size=30).map(lambda raw: raw.replace(b"\r", b"\n"))))
def test_lines_come_whole_and_not_a_byte_is_lost_or_added(data: list[bytes]) -> None:
    lines = Lines()
    pieces = [read(lines.feed(piece)) for piece in data]
    assert all(piece.endswith(b"\n") for piece in pieces if piece)
    assert b"".join(pieces) + read(lines.finish()) == b"".join(data)


def test_an_overlong_line_is_neither_split_nor_held_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    lines = Lines()
    assert lines.feed(b"x" * (IN_MEMORY - 1)) == []
    assert not lines._rest.is_file
    assert lines.feed(b"y" * 2) == []
    assert lines._rest.is_file
    assert list(tmp_path.iterdir()) == []  # it has no name
    assert read(lines.feed(b"z\nrest")) == b"x" * (IN_MEMORY - 1) + b"yyz\n"
    assert read(lines.finish()) == b"rest"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (b"", b""),
        (b"a\n", b"t\ta\n"),
        (b"a\nb\n", b"t\ta\nt\tb\n"),
        (b"a\n\nb", b"t\ta\nt\t\nt\tb\n"),
        (b"\n", b"t\t\n"),
    ],
)
def test_tags_begin_each_line_wherever_it_is_cut(lines: bytes, expected: bytes) -> None:
    for cut in range(len(lines) + 1):
        tagger = Tagger(b"t\t")
        assert tagger.feed(lines[:cut]) + tagger.feed(lines[cut:]) + tagger.finish() == expected


def live_stream(emit: Callable[[bytes], object]) -> OutputStream:
    stream = OutputStream(os.pipe(), Lines(), lambda lines: emit(read([lines])), pytest.fail)
    stream.resume()
    return stream


async def test_a_live_stream_gives_lines_at_once_and_ends_with_its_command() -> None:
    lines: asyncio.Queue[bytes] = asyncio.Queue()
    stream = live_stream(lines.put_nowait)
    os.write(stream.write_fd, b"one\ntwo\nthr")
    assert await lines.get() == b"one\ntwo\n"
    os.write(stream.write_fd, b"ee")
    closed = asyncio.get_running_loop().create_future()
    stream.end(lambda: closed.set_result(None))
    await closed
    rest = b"".join(lines.get_nowait() for _ in range(lines.qsize()))
    assert rest == b"three"
    assert stream.size == 13


async def test_a_program_that_closes_its_stream_has_ended_it() -> None:
    lines: list[bytes] = []
    stream = live_stream(lines.append)
    theirs = os.dup(stream.write_fd)
    stream.close_write_end()
    os.write(theirs, b"bye")
    os.close(theirs)
    while not lines:
        await asyncio.sleep(0)
    closed: list[bool] = []
    stream.end(lambda: closed.append(True))
    assert (lines, closed) == ([b"bye"], [True])


async def test_a_pipe_that_somebody_else_holds_does_not_hold_us() -> None:
    lines: list[bytes] = []
    stream = live_stream(lines.append)
    leaked = os.dup(stream.write_fd)
    os.write(leaked, b"last words")
    closed = asyncio.get_running_loop().create_future()
    started = asyncio.get_running_loop().time()
    stream.end(lambda: closed.set_result(None))
    await closed
    assert DRAIN_TIMEOUT * 0.9 <= asyncio.get_running_loop().time() - started < DRAIN_TIMEOUT + 5
    assert b"".join(lines) == b"last words"
    os.close(leaked)


async def test_a_paused_stream_leaves_its_bytes_in_the_pipe() -> None:
    lines: list[bytes] = []
    stream = live_stream(lines.append)
    stream.pause()
    os.write(stream.write_fd, b"a\n")
    closed = asyncio.get_running_loop().create_future()
    stream.end(lambda: closed.set_result(None))
    await asyncio.sleep(DRAIN_TIMEOUT * 1.5)  # the timeout does not run while it is us who are slow
    assert not lines
    assert not closed.done()
    stream.resume()
    await closed
    assert lines[0] == b"a\n"


async def test_output_keeps_its_order_and_waits_for_a_slow_reader(pipe: Pipe) -> None:
    output = Output(pytest.fail)
    flags = fcntl.fcntl(pipe.write_end, fcntl.F_GETFL)
    pieces = [bytes([65 + n]) * 300_000 for n in range(20)]
    for piece in pieces:
        output.write(pipe.write_end, piece)
    assert output.is_congested
    roomy = asyncio.get_running_loop().create_future()
    output.when_low(lambda: roomy.set_result(output.pending))
    await asyncio.sleep(0)
    assert not roomy.done()
    whole = await pipe.read_all(sum(map(len, pieces)))
    await output.flush()
    assert whole == b"".join(pieces)
    assert 0 < roomy.result() <= LOW_WATER
    assert not output.is_congested
    assert fcntl.fcntl(pipe.write_end, fcntl.F_GETFL) == flags
    output.close()


async def test_what_stands_behind_blocked_output_waits_with_it(pipe: Pipe, tmp_path: Path) -> None:
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    output = Output(pytest.fail)
    output.write(pipe.write_end, b"x" * 200_000)
    output.write(log, b"done\n")
    await asyncio.sleep(0)
    assert (tmp_path / "log").read_bytes() == b""
    await pipe.read_all(200_000)
    await output.flush()
    assert (tmp_path / "log").read_bytes() == b"done\n"
    output.close()
    os.close(log)


async def test_after_a_broken_output_nothing_is_recorded_as_done(pipe: Pipe, tmp_path: Path) -> None:
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    errors: list[tuple[int, type[OSError]]] = []
    output = Output(lambda fd, error: errors.append((fd, type(error))))
    os.close(pipe.read_end)
    for _ in range(2):
        output.write(pipe.write_end, b"lost\n")
        output.write(log, b"done\n")
    await output.flush()
    assert errors == [(pipe.write_end, BrokenPipeError)]
    assert (tmp_path / "log").read_bytes() == b""
    output.close()
    os.close(log)


async def test_order_keep_the_order_and_hold_what_comes_early(tmp_path: Path) -> None:
    path = tmp_path / "out"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    made_room: list[bytes] = []
    order = OutputOrder(Output(pytest.fail), keep_order=True, on_room=lambda: made_room.append(path.read_bytes()))
    first, second, third = order.enter(), order.enter(), order.enter()
    third.write(fd, b"3")
    order.finish(third)
    second.write(fd, b"2")
    first.write(fd, b"1")
    assert path.read_bytes() == b"1"
    assert order.held_bytes == 2
    order.finish(first)
    second.write(fd, b"2")
    assert path.read_bytes() == b"122"
    order.finish(second)
    assert path.read_bytes() == b"1223"
    assert order.held_bytes == 0
    assert made_room == [b"12", b"1223"]
    assert order.enter().is_turn
    order.output.close()
    os.close(fd)


async def test_a_live_command_before_its_turn_is_held_back(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    order = OutputOrder(Output(pytest.fail), keep_order=True, on_room=lambda: None)
    first, second = order.enter(), order.enter()
    second.write(fd, b"x" * (MAX_HELD_LIVE + 1))
    assert second.is_congested
    called: list[bool] = []
    second.when_clear(lambda: called.append(second.is_congested))
    order.finish(first)
    assert called == [False]
    order.output.close()
    os.close(fd)


def test_water_marks_leave_room_for_hysteresis() -> None:
    assert 0 < LOW_WATER < HIGH_WATER


def test_the_bar_and_the_output_share_the_terminal() -> None:
    last_line = LastLine()
    assert last_line.pass_through(b"a\n") == b"a\n"
    assert last_line.draw(b"[bar]") == b"[bar]"
    assert last_line.draw(b"[bar]") == b""
    assert last_line.pass_through(b"b\n") == WIPE + b"b\n[bar]"
    assert last_line.pass_through(b"no newline") == WIPE + b"no newline"
    assert last_line.pass_through(b", more") == b", more"
    assert last_line.draw(b"[bar2]") == b"\n[bar2]"
    assert last_line.draw(b"[bar3]") == WIPE + b"[bar3]"
    assert last_line.draw(b"") == WIPE
    assert last_line.draw(b"") == b""


async def test_a_standard_error_that_is_gone_is_nobodys_loss(monkeypatch: pytest.MonkeyPatch, pipe: Pipe) -> None:
    output = Output(pytest.fail)
    real_write = os.write

    def write(fd: int, data: bytes) -> int:
        if fd == STDERR:
            raise BrokenPipeError
        return real_write(fd, data)

    monkeypatch.setattr(os, "write", write)
    output.write(STDERR, b"hello?")
    output.write(pipe.write_end, b"still here")
    await output.flush()
    assert pipe.read() == b"still here"
    output.close()


@pytest.mark.parametrize("one_file", [True, False])
async def test_a_message_does_not_wait_for_a_slow_reader(
    one_file: bool, monkeypatch: pytest.MonkeyPatch, pipe: Pipe
) -> None:
    other = Pipe()
    monkeypatch.setattr("aiocmdpool.cli.output.writer.STDERR", os.dup(pipe.write_end if one_file else other.write_end))
    output = Output(pytest.fail)
    output.write(pipe.write_end, b"x" * 200_000)
    output.write(pipe.write_end, b"y" * 10)
    output.interject(b"press again")
    if one_file:  # then only not in the middle of a piece
        assert await pipe.read_all(200_021) == b"x" * 200_000 + b"press again" + b"y" * 10
    else:
        assert other.read() == b"press again"
        assert await pipe.read_all(200_010) == b"x" * 200_000 + b"y" * 10
    await output.flush()
    output.close()
    for fd in (other.read_end, other.write_end, cli_output.STDERR):
        os.close(fd)


@pytest.mark.parametrize(
    ("snapshot", "text"),
    [
        (
            Snapshot(finished=5, failed=0, skipped=0, running=2, total=20, elapsed=1.0),
            "5/20 5.0/s, ETA 3.0 s, 2 running",
        ),
        (
            Snapshot(finished=5, failed=1, skipped=10, running=2, total=20, elapsed=1.0),
            "15/20 5.0/s, ETA 1.0 s, 1 failed, 2 running",
        ),
        (Snapshot(finished=5, failed=0, skipped=0, running=1, total=None, elapsed=2.0), "5 2.5/s, 1 running"),
        (Snapshot(finished=0, failed=0, skipped=0, running=1, total=9, elapsed=0.0), "0/9 0.0/s, 1 running"),
        (
            Snapshot(finished=12, failed=0, skipped=0, running=0, total=9, elapsed=1.0),
            "12/12 12.0/s, ETA 0.0 s, 0 running",
        ),
    ],
)
def test_the_words_beside_the_bar(snapshot: Snapshot, text: str) -> None:
    assert progress_text(snapshot) == text
