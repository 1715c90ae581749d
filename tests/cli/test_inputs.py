"""Inputs: cut at their separator, read no faster than used, without touching the descriptor's flags."""

import asyncio
import fcntl
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocmdpool.cli.inputs import CHUNK, MAX_INPUT, GivenInputs, InputError, Inputs, StreamInputs


async def all_of(inputs: Inputs) -> list[str]:
    found: list[str] = []
    while batch := await inputs.next_batch():
        found += batch
    return found


class Stream:
    """A file or a pipe to read inputs from."""

    def __init__(self, fd: int, separator: bytes = b"\n") -> None:
        self.fd = fd
        self.inputs = StreamInputs(fd, "the test", separator)

    def __enter__(self) -> StreamInputs:
        return self.inputs

    def __exit__(self, *_: object) -> None:
        self.inputs.close()
        os.close(self.fd)


def file_with(path: Path, data: bytes) -> int:
    path.write_bytes(data)
    return os.open(path, os.O_RDONLY)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"a\nb\n", ["a", "b"]),
        (b"a\nb", ["a", "b"]),
        (b"\n\n", ["", ""]),
        (b"a b\t\r\n'\"\\\n", ["a b\t\r", "'\"\\"]),
        (b"\xff\xfe\n\xc3\xa4\n", ["\udcff\udcfe", "ä"]),
        (b"x" * CHUNK + b"\n" + b"y" * (CHUNK - 1) + b"\nz", ["x" * CHUNK, "y" * (CHUNK - 1), "z"]),
    ],
    ids=["empty", "lines", "no-last-newline", "blank", "nothing-is-quoted", "invalid-utf8", "across-chunks"],
)
async def test_lines_of_a_file(tmp_path: Path, data: bytes, expected: list[str]) -> None:
    with Stream(file_with(tmp_path / "inputs", data)) as inputs:
        assert await all_of(inputs) == expected


async def test_nul_separated_inputs_may_hold_newlines(tmp_path: Path) -> None:
    with Stream(file_with(tmp_path / "inputs", b"a\nb\0c\0"), b"\0") as inputs:
        assert await all_of(inputs) == ["a\nb", "c"]


@given(texts=st.lists(st.binary(max_size=12).filter(lambda raw: b"\0" not in raw)), sizes=st.lists(st.integers(1, 9)))
def test_where_chunks_end_does_not_matter(texts: list[bytes], sizes: list[int]) -> None:
    data = b"".join(text + b"\0" for text in texts)
    read_end, write_end = os.pipe()
    os.close(write_end)
    with Stream(read_end, b"\0") as inputs:
        found: list[str] = []
        for size in [*sizes, len(data) or 1]:
            piece, data = data[:size], data[size:]
            found += inputs._cut(piece) if piece else []
    assert [os.fsencode(text) for text in found] == texts


async def test_an_open_pipe_gives_what_is_there_and_can_be_cancelled_at_once() -> None:
    read_end, write_end = os.pipe()
    with Stream(read_end) as inputs:
        os.write(write_end, b"a\nb\nc")
        assert await inputs.next_batch() == ["a", "b"]
        waiting = asyncio.create_task(inputs.next_batch())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        os.close(write_end)
        assert await inputs.next_batch() == ["c"]
        assert await inputs.next_batch() == []


async def test_the_flags_of_a_shared_descriptor_stay_as_they_are() -> None:
    read_end, write_end = os.pipe()
    before = fcntl.fcntl(read_end, fcntl.F_GETFL)
    with Stream(read_end) as inputs:
        asyncio.get_running_loop().call_later(0.01, os.write, write_end, b"a\n")
        assert await inputs.next_batch() == ["a"]
        assert fcntl.fcntl(read_end, fcntl.F_GETFL) == before
    os.close(write_end)


async def test_a_device_that_cannot_be_watched_is_read() -> None:
    with Stream(os.open(os.devnull, os.O_RDONLY)) as inputs:
        assert await inputs.next_batch() == []


async def test_reading_stays_a_chunk_ahead(tmp_path: Path) -> None:
    fd = file_with(tmp_path / "inputs", b"line\n" * CHUNK)
    with Stream(fd) as inputs:
        assert len(await inputs.next_batch()) <= CHUNK // 5
        assert os.lseek(fd, 0, os.SEEK_CUR) == CHUNK


async def test_a_line_without_end_is_an_error_and_not_a_full_memory(tmp_path: Path) -> None:
    with Stream(file_with(tmp_path / "inputs", b"a\n" + b"x" * (2 * MAX_INPUT))) as inputs:
        assert await inputs.next_batch() == ["a"]
        with pytest.raises(InputError, match="longer than 1024 KiB; is it separated by NUL"):
            await inputs.next_batch()


async def test_the_total_is_estimated_from_the_size_of_a_file(tmp_path: Path) -> None:
    lines = 50_000
    with Stream(file_with(tmp_path / "inputs", b"abcdefg\n" * lines)) as inputs:
        assert inputs.estimated_total() is None
        await inputs.next_batch()
        assert inputs.estimated_total() == lines
        await all_of(inputs)
        assert inputs.estimated_total() == lines


async def test_the_total_of_a_pipe_is_unknown_until_its_end() -> None:
    read_end, write_end = os.pipe()
    with Stream(read_end) as inputs:
        os.write(write_end, b"a\nb\n")
        await inputs.next_batch()
        assert inputs.estimated_total() is None
        os.close(write_end)
        assert await inputs.next_batch() == []
        assert inputs.estimated_total() == 2


async def test_given_inputs_know_their_total() -> None:
    inputs = GivenInputs(("a", "b"))
    assert inputs.estimated_total() == 2
    assert await all_of(inputs) == ["a", "b"]
