"""Lines of text in encodings of all widths, and reads of nothing."""

import pytest

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import LineTooLong


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
