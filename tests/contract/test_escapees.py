"""Processes that leave the group of a command but keep its environment: dead and reported, however the command ends."""

import asyncio
import contextlib
import mmap
import os
import select

import pytest

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import CommandTimeout, TaskCancelled
from aiocmdpool.commands.result import KillTier

from .support import (
    DYING,
    adopting,
    assert_dead,
    helper,
    is_dead,
    outcome,
    returns_before_programs_end,
    sh,
    with_patience,
)

pytestmark = pytest.mark.slow

both_loops = pytest.mark.one_loop("asyncio", "uvloop")

SET_SESSION = """
setsid sh -c 'echo $$ >"$1"; echo >"$2"; exec sleep 60' sh "$1" "$2" >/dev/null 2>&1 &
read x <"$2"
echo $$ >"$1"
"""


def is_over(pid: int) -> bool:
    """Whether it is dead, and not one whose main thread alone has ended, which looks the same."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return is_dead(pid) and len(os.listdir(f"/proc/{pid}/task")) <= 1
    return True


def escaping(kind: str, ready, release, ending: str) -> CommandConfig:
    """Says the pid of the escapee, then its own."""
    if kind == "setsid":
        return sh(SET_SESSION + ("exit 0" if ending == "leave" else "sleep 60"), ready.path, release.path)
    if kind == "main thread gone":
        return helper("end_main_thread", ready.path, ending)
    return helper("double_fork", ready.path, ending, "session")


kinds = pytest.mark.parametrize("kind", ["setsid", "double fork", "main thread gone"])


@kinds
async def test_what_escaped_before_the_exit_is_killed_and_reported(backend, ready, release, kind):
    with returns_before_programs_end():
        result = await backend.execute(escaping(kind, ready, release, "leave"))
    escaped, _ = await ready.pids(2)
    assert is_over(escaped)
    assert (result.returncode, [leak.pid for leak in result.leaked]) == (0, [escaped])
    assert result.leaked[0].name
    assert result.killed_by is KillTier.DESCENDANTS


@kinds
@both_loops
async def test_what_escaped_before_the_deadline_is_killed(backend, ready, release, kind):
    async def attempt(seconds: float) -> tuple[CommandTimeout, list[bytes]]:
        error = await outcome(backend.execute(escaping(kind, ready, release, "stay").with_timeout(seconds)))
        assert isinstance(error, CommandTimeout)
        return error, ready.heard()

    with returns_before_programs_end():
        error, said = await with_patience(attempt, lambda value: len(value[1]) == 2)
    assert is_over(int(said[0]))
    assert (error.result.leaked, error.result.killed_by) == ((), KillTier.DESCENDANTS)


@kinds
@both_loops
@pytest.mark.parametrize("end", ["cancel", "close"])
async def test_what_escaped_before_the_end_is_killed(backend, ready, release, kind, end):
    running = asyncio.ensure_future(backend.execute(escaping(kind, ready, release, "stay")))
    escaped, _ = await ready.pids(2)
    with returns_before_programs_end():
        if end == "cancel":
            running.cancel()
        else:
            await backend.aclose()
        with pytest.raises((asyncio.CancelledError, TaskCancelled)) as caught:
            await running
    assert is_over(escaped)
    error = caught.value if isinstance(caught.value, TaskCancelled) else caught.value.__cause__
    assert error.result.killed_by is KillTier.DESCENDANTS


@both_loops
async def test_many_escapees_are_all_killed_and_listed(backend):
    script = (
        'for turn in 1 2 3 4 5 6 7 8; do setsid -f sleep 60 >/dev/null 2>&1; done; setsid -f sh -c "echo; sleep 60"'
    )
    # A process that has just been forked is still in the group; but each is named once.
    result = await backend.execute(sh(f"{script} | read x"))
    pids = [leak.pid for leak in result.leaked]
    assert len(pids) == len(set(pids)) >= 9
    await assert_dead(*pids)


@both_loops
async def test_the_escapees_of_others_are_left_alone(backend, ready):
    staying = asyncio.ensure_future(backend.execute(helper("double_fork", ready.path, "stay", "session")))
    other, _ = await ready.pids(2)
    result = await backend.execute(helper("double_fork", ready.path, "leave", "session"))
    escaped, _ = await ready.pids(2)
    assert is_over(escaped)
    # Where nothing but its environment says whose it is, while another one runs that it may be of, nobody is told.
    assert [leak.pid for leak in result.leaked] in ([], [escaped])
    assert not is_dead(other)
    staying.cancel()
    await outcome(staying)
    await assert_dead(other)


@pytest.mark.parametrize("how", [(), ("session",)], ids=["in the group", "in a session"])
@pytest.mark.skipif(not hasattr(mmap, "MADV_NOHUGEPAGE"), reason="only Linux hands over children that late")
@both_loops
async def test_what_has_a_dying_parent_is_killed_and_reported(backend, ready, how):
    with returns_before_programs_end(), adopting():  # the dying parent, which the program killed
        result = await backend.execute(helper("die_slowly", ready.path, *how))
    left, _ = await ready.pids(2)
    assert is_dead(left)
    assert left in [leak.pid for leak in result.leaked]


@pytest.mark.parametrize("how", [(), ("sessions",)], ids=["in the group", "each in a session"])
@pytest.mark.parametrize("ending", ["leave", "stay"])
@both_loops
async def test_a_chain_of_forks_comes_to_its_end(backend, ready, how, ending):
    """Each of its processes holds the pipe, so the end of the pipe is the end of all of them."""
    read_end, write_end = os.pipe()
    command = helper("fork_chain", ready.path, ending, *how, stdout=write_end, grace=0.2)
    with adopting():  # of most generations nobody has known but their parents, and those are gone
        running = asyncio.ensure_future(backend.execute(command))
        await ready.pids(2)
        if ending == "stay":
            running.cancel()
        with returns_before_programs_end():
            end = await outcome(running)
    os.close(write_end)
    ended, _, _ = select.select([read_end], [], [], DYING)
    os.close(read_end)
    assert ended, "the chain goes on"
    if ending == "leave":
        assert end.returncode == 0
        assert end.leaked
        assert end.killed_by is not None
