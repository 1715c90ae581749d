"""Signals that commands send to their parent, or to whoever they find: nobody else's affair."""

import asyncio
import re
import signal
import subprocess
import sys

import pytest
from contract.support import argv_of, helper

from aiocmdpool.commands.command import CommandConfig

from .support import hold, in_background, pairs
from .test_guardian import assert_all_die, loops, running

pytestmark = pytest.mark.slow

SENT = b"62\n" if sys.platform == "linux" else b"%d\n" % (signal.NSIG - 3)
ways = pytest.mark.parametrize(
    "options", [{}, {"umask": 0o77}, {"detach": True}], ids=["spawned", "forked", "detached"]
)


@ways
async def test_signals_to_the_parent_of_a_command_end_neither_it_nor_its_neighbours(new_pool, ready, release, options):
    pool = new_pool(1)
    neighbours = in_background(pool, hold(ready, release), hold(ready, release, detach=True), hold(ready, release))
    held = await pairs(ready, 3)
    pids = pool.statistics().pids
    for _ in range(2):
        result = await pool.execute(helper("signal_parent", **options))
        assert (result.returncode, result.stdout, result.stderr) == (0, SENT, b"")
    for _ in held:
        release.send()
    assert [end.stdout for end in await asyncio.gather(*neighbours)] == [b"held\n"] * 3
    assert pool.statistics().pids == pids


@ways
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_commands_block_and_ignore_nothing_of_it(new_pool, options):
    pool = new_pool(1)
    for _ in range(2):  # by a child that asks first, then without
        status = (await pool.execute(CommandConfig("cat", ["/proc/self/status"], **options))).text()
        sets = {
            name: int(value, 16) for name, value in re.findall(r"^(Sig\w+|ShdPnd):\s*([0-9a-f]{16})$", status, re.M)
        }
        internal = 1 << 31 | 1 << 32  # glibc's posix_spawn(3) has those ignored that it keeps for itself
        assert (sets["SigBlk"], sets["SigIgn"] & ~internal, sets["SigCgt"], sets["SigPnd"]) == (
            0,
            inherited_ignored(),
            0,
            0,
        )


def inherited_ignored() -> int:
    """What this process itself ignores because its parent did."""
    ignored = {number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN}
    return sum(1 << number - 1 for number in ignored - {signal.SIGPIPE, signal.SIGXFSZ})


@loops
def test_a_guardian_goes_on_whatever_it_is_sent(ready, loop):
    with running("works_without_control_groups", loop, ready) as host:
        host.listen()
        assert subprocess.run([*argv_of("signal_parent"), str(host.guardian)], capture_output=True, check=True).stdout
        host.is_killed()
        assert_all_die([*host.programs, host.guardian])
