"""When memory runs out, the kernel takes what was started, not the host."""

import asyncio
from pathlib import Path

import pytest
from conftest import HEARING

from aiocmdpool.standalone.kernel import oom

from .support import sh

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/oom_score_adj").exists(), reason="this system has no such scores"),
]


def score_of(pid: int | str) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def own_score() -> int:
    return score_of("self")


@pytest.mark.parametrize("settings", [{}, {"niceness": 1}])
async def test_commands_and_what_they_start_are_killed_for_memory_before_the_host(backend, ready, release, settings):
    script = 'echo $$ >"$1"; read x <"$2"; cat /proc/self/oom_score_adj'
    async with asyncio.TaskGroup() as group:
        run = group.create_task(backend.execute(sh(script, ready.path, release.path, **settings)))
        child = int(await ready.wait())
        async with asyncio.timeout(HEARING):  # the program may be faster than the thread that starts it
            while score_of(child) == own_score():
                await asyncio.sleep(0.001)
        release.send()
    assert int(run.result().stdout) == min(oom.HIGHEST, own_score() + oom.YIELD_BY)


def test_where_that_cannot_be_said_everything_goes_on(tmp_path):
    oom.yield_memory_first("no such process")
    oom.yield_memory_first("1/../../proc")


def test_the_score_stays_within_what_the_kernel_takes(monkeypatch, tmp_path):
    written: list[bytes] = []
    monkeypatch.setattr(oom.os, "read", lambda fd, size: b"900\n")
    monkeypatch.setattr(oom.os, "pwrite", lambda fd, data, offset: written.append(data))
    oom.yield_memory_first("self")
    assert written == [b"1000"]
