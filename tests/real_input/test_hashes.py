"""Every program of /usr/bin, hashed by one command each, and all of them by one command: the same."""

import subprocess

import pytest

from aiocmdpool import CommandConfig

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def expected(programs) -> bytes:
    """What one plain run says."""
    return subprocess.run(["sha256sum", "--", *programs], check=True, capture_output=True).stdout


@pytest.mark.one_loop("uvloop")
async def test_files_given_by_name(pool, programs, expected):
    commands = (CommandConfig("sha256sum", ["--", path], check=True) for path in programs)
    assert b"".join([result.stdout async for result in pool.map(commands)]) == expected


@pytest.mark.one_loop
async def test_files_given_on_stdin_as_they_complete(pool, programs, expected):
    commands = (CommandConfig("sha256sum", stdin=path, check=True) for path in programs)
    digests = [result.stdout.split()[0] async for result in pool.map(commands, ordered=False)]
    assert sorted(digests) == sorted(line.lstrip(b"\\").split()[0] for line in expected.splitlines())
