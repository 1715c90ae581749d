"""Sources of the standard library through gzip and back: not a byte is lost, through pipes or through files."""

import random

import pytest

from aiocmdpool import CommandConfig

pytestmark = pytest.mark.slow


async def outputs(pool, commands) -> list[bytes]:
    return [result.stdout async for result in pool.map(commands)]


@pytest.mark.one_loop("uvloop")
async def test_through_pipes(pool, sources):
    originals = [path.read_bytes() for path in sources]
    packed = await outputs(pool, (CommandConfig("gzip", ["-c"], stdin=data, check=True) for data in originals))
    assert all(data.startswith(b"\x1f\x8b") for data in packed)
    assert sum(map(len, packed)) < sum(map(len, originals)) / 2
    unpacked = await outputs(pool, (CommandConfig("gunzip", ["-c"], stdin=data, check=True) for data in packed))
    assert unpacked == originals


@pytest.mark.one_loop
async def test_through_files(pool, sources, tmp_path):
    packed = [tmp_path / f"{number}.gz" for number in range(len(sources))]
    unpacked = [path.with_suffix(".py") for path in packed]
    for program, sides in (("gzip", zip(sources, packed, strict=True)), ("gunzip", zip(packed, unpacked, strict=True))):
        commands = (CommandConfig(program, ["-c"], stdin=source, stdout=to, check=True) for source, to in sides)
        assert {output async for output in named_outputs(pool, commands)} == {None}
    assert [path.read_bytes() for path in unpacked] == [path.read_bytes() for path in sources]


async def named_outputs(pool, commands):
    async for result in pool.map(commands):
        yield result.stdout


@pytest.mark.one_loop("uvloop")
async def test_what_does_not_shrink(pool):
    """Both pipes are full at once, both ways."""
    luck = random.Random(7)
    originals = [luck.randbytes(size) for size in (0, 1, 65_536, 3_000_000)]
    packed = await outputs(pool, (CommandConfig("gzip", ["-c"], stdin=data, check=True) for data in originals))
    unpacked = await outputs(pool, (CommandConfig("gunzip", ["-c"], stdin=data, check=True) for data in packed))
    assert unpacked == originals
