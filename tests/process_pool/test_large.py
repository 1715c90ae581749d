"""Large output, large input, and streams that lead elsewhere."""

import asyncio
import hashlib
import os

import pytest
from contract.support import helper, pattern

from aiocmdpool.commands.command import CommandConfig, OutputPolicy, Stdio
from aiocmdpool.commands.errors import OutputLimitExceeded

from .support import PATIENCE, in_background, outcome, sh

pytestmark = [pytest.mark.slow, pytest.mark.one_loop("asyncio", "uvloop")]  # debug mode shows nothing new here

BLOCK = 10_000_000  # bytes


@pytest.fixture(scope="module")
def block(tmp_path_factory) -> tuple[str, bytes]:
    """A file of random bytes, and what is in it."""
    path = tmp_path_factory.mktemp("block") / "block"
    data = os.urandom(BLOCK)
    path.write_bytes(data)
    return str(path), data


async def test_200_mb_arrive_intact_and_hold_up_nobody(new_pool, ready, release, block):
    """The small commands run in the same worker, and end while the large one is still writing."""
    path, data = block
    script = 'echo >"$1"; cat $(seq 19 | sed "s,.*,$3,"); read x <"$2"; cat "$3"'
    pool = new_pool(1)
    [large] = in_background(pool, sh(script, ready.path, release.path, path))
    await ready.wait()
    loop = asyncio.get_running_loop()
    took = []
    for number in range(30):
        began = loop.time()
        assert int((await pool.execute(CommandConfig("echo", [str(number)]))).stdout) == number
        took.append(loop.time() - began)
    assert not large.done()
    assert sorted(took)[-3] < 1.0  # one or two of them may be held up by other processes
    release.send()
    result = await asyncio.wait_for(large, PATIENCE)
    assert len(result.stdout) == 20 * BLOCK
    expected = hashlib.sha1()
    for _ in range(20):
        expected.update(data)
    assert hashlib.sha1(result.stdout).digest() == expected.digest()
    assert not result.truncated


async def test_the_loop_goes_on_while_large_output_is_read(new_pool, block):
    pool = new_pool(1)
    loop = asyncio.get_running_loop()

    async def longest_turn() -> float:
        [large] = in_background(pool, sh('cat "$1" "$1" "$1" "$1" "$1" "$1"', block[0]))
        longest, last = 0.0, loop.time()
        while not large.done():
            await asyncio.sleep(0.001)
            longest, last = max(longest, loop.time() - last), loop.time()
        assert (await large).stdout == block[1] * 6
        return longest

    for _ in range(5):  # it takes a few milliseconds; another process may have the CPU meanwhile, but not each time
        if await longest_turn() < 0.5:
            return
    pytest.fail("the loop stood still each time")


async def test_large_output_on_both_streams_of_many_commands_at_once(new_pool):
    pool = new_pool(2)
    sizes = [65_535, 65_536, 65_537, 131_072, 1_000_000, 1_000_001, 2_500_000]
    commands = [helper("write_n_bytes", size, "both") for size in sizes * 2]
    ends = await asyncio.gather(*in_background(pool, *commands))
    for size, end in zip(sizes * 2, ends, strict=True):
        assert end.stdout == end.stderr == pattern(size)


async def test_more_large_outputs_at_once_than_the_socket_holds(new_pool, ready, release):
    """The host is busy while they come in."""
    pool = new_pool(1)
    count = 320
    script = 'echo >"$1"; read x <"$2"; echo "$3"; head -c 70000 /dev/zero'
    running = in_background(pool, *(sh(script, ready.path, release.path, number) for number in range(count)))
    for _ in range(count):
        await ready.wait()
    for _ in range(count):
        release.send()
    await asyncio.sleep(0)
    worker = pool.statistics().pids[0]
    while children(worker):  # without a turn of the loop
        pass
    ends = await asyncio.wait_for(asyncio.gather(*running), PATIENCE)
    for number, end in enumerate(ends):
        assert end.stdout == f"{number}\n".encode() + bytes(70_000)


def children(pid: int) -> bool:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return bool(file.read())


@pytest.mark.parametrize("policy", list(OutputPolicy))
async def test_a_limit_is_kept_for_large_output(new_pool, block, policy):
    pool = new_pool(1)
    command = sh('cat "$1" "$1"', block[0], max_output=BLOCK + 7, output_policy=policy)
    end = await outcome(pool.execute(command))
    both = block[1] * 2
    if policy is OutputPolicy.FAIL:
        assert isinstance(end, OutputLimitExceeded)
        end = end.result
    kept = both[-BLOCK - 7 :] if policy is OutputPolicy.KEEP_TAIL else both[: BLOCK + 7]
    assert end.stdout == kept
    assert end.truncated


async def test_large_input_is_fed(new_pool):
    pool = new_pool(1)
    inputs = [os.urandom(5_000_000) for _ in range(4)]
    commands = [CommandConfig("sha1sum", stdin=data) for data in inputs]
    ends = await asyncio.wait_for(asyncio.gather(*in_background(pool, *commands)), PATIENCE)
    for data, end in zip(inputs, ends, strict=True):
        assert end.stdout.split()[0] == hashlib.sha1(data).hexdigest().encode()


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 65_536, 65_537, 300_000])
async def test_input_of_any_size_comes_back(new_pool, size):
    pool = new_pool(1)
    result = await pool.execute(CommandConfig("cat", stdin=pattern(size)))
    assert result.stdout == pattern(size)


async def test_input_that_nobody_reads_holds_up_nothing(new_pool):
    pool = new_pool(1)
    ends = await asyncio.gather(*in_background(pool, *[CommandConfig("true", stdin=bytes(5_000_000))] * 10))
    assert {end.returncode for end in ends} == {0}


async def test_open_descriptors_as_streams(new_pool, tmp_path):
    pool = new_pool(2)
    (tmp_path / "in").write_bytes(b"input")
    with (
        open(tmp_path / "in", "rb") as source,
        open(tmp_path / "out", "wb") as out,
        open(tmp_path / "err", "wb") as err,
    ):
        streams = {"stdin": source.fileno(), "stdout": out.fileno(), "stderr": err.fileno()}
        result = await pool.execute(sh("cat; echo words >&2", **streams))
        assert os.lseek(source.fileno(), 0, os.SEEK_CUR) == 5  # it is the same open file
    assert (result.stdout, result.stderr) == (None, None)
    assert (tmp_path / "out").read_bytes() == b"input"
    assert (tmp_path / "err").read_bytes() == b"words\n"


async def test_two_commands_are_joined_by_a_pipe(new_pool):
    pool = new_pool(2)
    read_end, write_end = os.pipe()
    running = in_background(
        pool,
        sh("head -c 3000000 /dev/zero; echo end", stdout=write_end),
        CommandConfig("sha1sum", stdin=read_end),
    )
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    os.close(read_end)
    os.close(write_end)
    _, end = await asyncio.wait_for(asyncio.gather(*running), PATIENCE)
    assert end.stdout.split()[0] == hashlib.sha1(bytes(3_000_000) + b"end\n").hexdigest().encode()


async def test_a_thousand_descriptors_are_passed_at_once(new_pool, tmp_path):
    """More than the socket holds; order and contents are kept."""
    pool = new_pool(2)

    async def run(number: int) -> bytes:
        with open(tmp_path / str(number), "w+b") as file:
            file.write(str(number).encode())
            file.seek(0)
            return (await pool.execute(CommandConfig("cat", stdin=file.fileno()))).stdout

    ends = await asyncio.wait_for(asyncio.gather(*map(run, range(1000))), PATIENCE)
    assert [int(end) for end in ends] == list(range(1000))


async def test_streams_that_lead_nowhere(new_pool):
    pool = new_pool(1)
    result = await pool.execute(sh("cat; echo out; echo err >&2", stdout=Stdio.NULL, stderr=Stdio.NULL))
    assert (result.returncode, result.stdout, result.stderr) == (0, None, None)
