"""Many callers, many commands, few workers."""

import asyncio
import hashlib
import os

import pytest
from contract.support import is_gone

from aiocmdpool.commands.command import CommandConfig

from .support import PATIENCE, in_background, sh, until

pytestmark = [pytest.mark.slow, pytest.mark.one_loop("asyncio", "uvloop")]  # debug mode shows nothing new here


async def test_two_thousand_quick_commands_lose_no_byte(new_pool):
    """Each prints something of its own, of some hundred bytes."""
    pool = new_pool(2)
    texts = [hashlib.sha512(str(number).encode()).hexdigest() * (1 + number % 4) for number in range(2000)]
    ends = await asyncio.wait_for(
        asyncio.gather(*in_background(pool, *(CommandConfig("echo", [text]) for text in texts))), PATIENCE
    )
    for text, end in zip(texts, ends, strict=True):
        assert (end.returncode, end.stdout, end.stderr) == (0, text.encode() + b"\n", b"")
    assert pool.statistics().completed == 2000
    assert pool.statistics().lost == 0


async def test_many_callers_take_turns(new_pool):
    pool = new_pool(2)

    async def caller(name: int) -> list[bytes]:
        return [(await pool.execute(CommandConfig("echo", [f"{name}:{turn}"]))).stdout for turn in range(10)]

    ends = await asyncio.wait_for(asyncio.gather(*map(caller, range(50))), PATIENCE)
    assert ends == [[f"{name}:{turn}\n".encode() for turn in range(10)] for name in range(50)]


@pytest.mark.one_loop("uvloop")
async def test_a_thousand_commands_sleep_at_once_in_two_workers(new_pool):
    pool = new_pool(2)
    running = in_background(pool, *[CommandConfig("sleep", ["0.5"])] * 1000)
    ends = await asyncio.wait_for(asyncio.gather(*running), PATIENCE)
    assert {(end.returncode, end.stdout) for end in ends} == {(0, b"")}
    assert len({end.pid for end in ends}) == 1000
    assert pool.statistics().workers == 2
    assert sum(end.duration for end in ends) > 500 * 0.9  # at once: they would take 250 s one after the other


async def test_commands_of_every_kind_mixed(new_pool, tmp_path):
    pool = new_pool(2)

    async def one(number: int) -> None:
        kind = number % 6
        if kind == 0:
            assert (await pool.execute(sh(f"exit {number % 200}"))).returncode == number % 200
        elif kind == 1:
            assert len((await pool.execute(sh("head -c 100000 /dev/zero"))).stdout) == 100_000
        elif kind == 2:
            assert (await pool.execute(CommandConfig("cat", stdin=str(number).encode()))).text() == str(number)
        elif kind == 3:
            with pytest.raises(OSError, match="no-such-program"):
                await pool.execute(CommandConfig("no-such-program"))
        elif kind == 4:
            with pytest.raises(TimeoutError):
                await pool.execute(CommandConfig("sleep", ["60"], timeout=0.02))
        else:
            await pool.execute(CommandConfig("touch", [str(number)], cwd=tmp_path))
            assert (tmp_path / str(number)).exists()

    await asyncio.wait_for(asyncio.gather(*map(one, range(300))), PATIENCE)
    assert pool.statistics().in_flight == 0


async def test_a_thousand_commands_leave_nothing_open(new_pool):
    pool = new_pool(2)

    async def some() -> None:
        commands = [sh("cat", stdin=b"x" * (n % 3 * 5000)) for n in range(100)]
        commands += [sh("head -c 100000 /dev/zero")] * 10 + [CommandConfig("no-such-program")] * 10
        await asyncio.gather(*in_background(pool, *commands))

    await some()
    await asyncio.sleep(1.0)  # for what a worker closes after its last reply

    def open_here_and_in_workers() -> list[list[str]]:
        return [sorted(os.listdir(f"/proc/{pid}/fd")) for pid in ("self", *pool.statistics().pids)]

    before = open_here_and_in_workers()
    for _ in range(5):
        await some()
    await until(lambda: open_here_and_in_workers() == before)


async def test_several_pools_on_one_loop_do_not_disturb_each_other(new_pool):
    pools = [new_pool(1) for _ in range(4)]
    running = [in_background(pool, *[sh("echo $PPID")] * 20) for pool in pools]
    for pool, ends in zip(pools, running, strict=True):
        assert {int((await end).stdout) for end in ends} == set(pool.statistics().pids)
    pids = pools[0].statistics().pids
    await pools[0].aclose()
    assert all(map(is_gone, pids))
    for pool in pools[1:]:
        assert (await pool.execute(CommandConfig("echo", ["fine"]))).stdout == b"fine\n"
