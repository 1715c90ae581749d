"""Lines of text in encodings of all widths, and reads of nothing."""

import pytest

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ConfigError, LineTooLong

pytestmark = pytest.mark.slow


async def test_no_bytes_are_there_at_once(backend):
    async with backend.open(CommandConfig("cat")) as process:
        assert await process.stdout.read(0) == b""
        assert await process.stdout.read_exactly(0) == b""
        with pytest.raises(ValueError, match="-1"):
            await process.stdout.read_exactly(-1)
        process.stdin.write(b"text")
        process.stdin.close()
        assert await process.stdout.read(0) == b""
        assert await process.stdout.read() == b"text"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-8"])
async def test_lines_of_text_are_cut_by_characters(backend, encoding):
    # U+0A0A and U+010A have a byte in UTF-16 that looks like a newline
    lines = ["first", "\u0a0a\u010a \U0001f600", "", "a" * 40_000, "last"]
    command = CommandConfig("cat", stdin="\n".join(lines).encode(encoding), encoding=encoding)
    async with backend.open(command) as process:
        assert [line async for line in process.stdout.text_lines()] == lines
    async with backend.open(command) as process:
        with pytest.raises(LineTooLong):
            assert [line async for line in process.stdout.text_lines(max_line=20_000)]


WIDTHS = [("utf-16", 2), ("utf-16-le", 2), ("utf-32", 4), ("utf-32-be", 4), ("utf-8-sig", 1), ("utf-8", 1)]


@pytest.mark.parametrize(("encoding", "width"), WIDTHS)
async def test_a_line_may_have_just_so_many_bytes(backend, encoding, width):
    command = CommandConfig("cat", stdin=("a" * 40 + "\n" + "b" * 40).encode(encoding), encoding=encoding)
    async with backend.open(command) as process:
        mark = 3 if encoding == "utf-8-sig" else 0
        lines = [line async for line in process.stdout.text_lines(max_line=40 * width + mark)]
        assert lines == ["a" * 40, "b" * 40]
    async with backend.open(command) as process:
        with pytest.raises(LineTooLong):
            assert [line async for line in process.stdout.text_lines(max_line=40 * width - 1)]


@pytest.mark.parametrize("max_line", [0, -1, None, 1.5])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
async def test_a_line_of_no_bytes_is_none(backend, encoding, max_line):
    async with backend.open(CommandConfig("true", encoding=encoding)) as process:
        with pytest.raises(ConfigError, match="max_line"):
            assert [line async for line in process.stdout.text_lines(max_line=max_line)]
