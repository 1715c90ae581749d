"""A host that becomes another while commands run; that commands follow it in all modes is tested by the contract."""

import asyncio
import os

import pytest
from contract.support import is_gone

from aiocmdpool.system import identity

from .support import hold, in_background, pairs, sh, until

pytestmark = [pytest.mark.slow, pytest.mark.one_loop("asyncio", "uvloop")]


@pytest.fixture
def umask():
    """Put back what a test makes of it."""
    before = identity.current_umask()
    yield before
    os.umask(before)


async def umask_of(pool) -> int:
    return int((await pool.execute(sh("umask"))).text(), 8)


async def test_what_runs_finishes_in_its_worker_which_then_leaves(new_pool, ready, release, umask):
    pool = new_pool(2)
    running = in_background(pool, hold(ready, release))
    [(_, old)] = await pairs(ready, 1)
    workers = pool.statistics().pids
    os.umask(0o027)
    assert await umask_of(pool) == 0o027
    assert not set(workers) & set(pool.statistics().pids)
    assert not is_gone(old)
    release.send()
    assert (await running[0]).stdout == b"held\n"
    await until(lambda: all(map(is_gone, workers)))
    assert pool.statistics().lost == 0
    assert len(pool.statistics().pids) == 2


async def test_a_host_that_changes_to_and_fro_gets_what_it_is_each_time(new_pool, umask):
    pool = new_pool(2)
    for mask in (0o027, 0o077, 0o022, 0o077):
        os.umask(mask)
        assert await umask_of(pool) == mask
        ends = await asyncio.gather(*(umask_of(pool) for _ in range(10)))
        assert set(ends) == {mask}


async def test_a_worker_that_dies_meanwhile_is_replaced_by_one_of_the_kind_of_the_others(new_pool, umask):
    """The host may be back at what it was by the next command."""
    pool = new_pool(2)
    before = await umask_of(pool)
    await until(lambda: all(worker.ready for worker in pool._workers))
    os.umask(0o077)
    pool._workers[0]._lose("the test says so")
    await until(lambda: pool.statistics().lost == 1 and pool.statistics().workers == 2)
    os.umask(before)
    ends = await asyncio.gather(*(umask_of(pool) for _ in range(10)))
    assert set(ends) == {before}


async def test_nothing_is_replaced_as_long_as_nothing_changes(new_pool, monkeypatch):
    monkeypatch.setattr(identity, "WHOLE_EVERY", 0.0)
    pool = new_pool(2)
    await pool.start()
    workers = pool.statistics().pids
    for _ in range(5):
        await asyncio.gather(*(umask_of(pool) for _ in range(10)))
    assert pool.statistics().pids == workers


def test_looking_at_the_umask_does_not_change_it(umask):
    for mask in (0o027, 0o077, 0o000):
        seen = identity.Identity()
        os.umask(mask)
        assert seen.has_changed()
        assert identity.current_umask() == mask
    assert not identity.Identity().has_changed()


def test_where_the_kernel_does_not_tell_the_umask_it_is_found_out(umask, monkeypatch):
    monkeypatch.setattr(identity, "_status", lambda: None)
    os.umask(0o027)
    assert identity.current_umask() == 0o027
    assert identity.current_umask() == 0o027
