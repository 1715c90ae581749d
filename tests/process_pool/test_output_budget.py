"""The budget for output of a process pool: one for all its workers, given back by whoever held it."""

import asyncio
import errno
import mmap
import os
import resource
import signal

import pytest
from contract.support import helper, pattern

from aiocmdpool.backends.workers.ledger import PAGES, Ledger
from aiocmdpool.commands.command import CommandConfig, OutputPolicy
from aiocmdpool.commands.errors import CommandTimeout, IoError, OutputLimitExceeded, WorkerLost
from aiocmdpool.standalone.worker import budget
from aiocmdpool.standalone.worker.budget import LIMIT, USED_UP

from .support import in_background, outcome, sh

pytestmark = [pytest.mark.slow, pytest.mark.one_loop("asyncio", "uvloop")]  # debug mode shows nothing new here

TOTAL = 300_000  # bytes
FLOOD = 1_000_000  # bytes
HOLDING = 'head -c "$3" /dev/zero; echo >"$1"; read x <"$2"'


def holder(ready, release, size: int = FLOOD) -> CommandConfig:
    """A command that writes so much, keeps what may be kept, and stays until it is released."""
    return sh(HOLDING, ready.path, release.path, str(size), output_policy=OutputPolicy.KEEP_HEAD)


async def held(pool, size: int) -> None:
    """Wait until so much is held: output is read beside this."""
    while pool._ledger.held() < size:
        await asyncio.sleep(0.001)


async def test_the_workers_draw_on_one_budget_and_nothing_is_held_in_the_end(new_pool, ready, release):
    pool = new_pool(2, max_output_total=TOTAL)
    await pool.start()
    [holding] = in_background(pool, holder(ready, release, 200_000))
    await ready.wait()
    await held(pool, 200_000)
    with pytest.raises(OutputLimitExceeded, match="max_output_total") as caught:
        await pool.execute(helper("write_n_bytes", FLOOD))  # in the other worker, which is idle
    assert len(caught.value.result.stdout) == TOTAL - 200_000
    release.send()
    assert len((await holding).stdout) == 200_000
    assert pool._ledger.held() == 0


async def test_whatever_becomes_of_commands_nothing_is_held_in_the_end(new_pool):
    pool = new_pool(2, max_output_total=TOTAL)
    for policy in OutputPolicy:
        options = {"output_policy": policy, "grace": 0.1}
        commands = [helper("write_n_bytes", size, "both", **options) for size in (0, 70_000, 100_000, FLOOD)]
        runs = in_background(pool, *commands, sh("head -c 200000 /dev/zero; sleep 60", timeout=0.5, **options))
        await asyncio.sleep(0)
        runs[1].cancel()
        ends = [await outcome(run) for run in runs]
        assert isinstance(ends[-1], CommandTimeout | OutputLimitExceeded)
        assert pool._ledger.held() == 0


async def test_a_lost_worker_gives_back_what_it_held(new_pool, ready, release):
    pool = new_pool(1, max_output_total=TOTAL)
    for _ in range(3):
        [holding] = in_background(pool, holder(ready, release))
        await ready.wait()
        await held(pool, TOTAL)
        [waiting] = in_background(pool, helper("write_n_bytes", TOTAL))
        os.kill(pool.statistics().pids[0], signal.SIGKILL)
        assert isinstance(await outcome(holding), WorkerLost)
        assert (await waiting).stdout == pattern(TOTAL)  # by the next worker, on the page of the other
        assert pool._ledger.held() == 0


async def test_those_that_wait_start_first_come_first_served(new_pool, ready, release):
    pool = new_pool(1, max_output_total=TOTAL)
    [holding] = in_background(pool, holder(ready, release))
    await ready.wait()
    await held(pool, TOTAL)
    started = []
    request = pool._workers[0]._submit

    def submit(command, control):
        started.append(command.args[-1])
        return request(command, control)

    pool._workers[0]._submit = submit
    waiting = in_background(pool, *(CommandConfig("echo", [str(number)]) for number in range(20)))
    await asyncio.sleep(0)
    release.send()
    await holding
    late = await pool.execute(CommandConfig("echo", ["late"]))
    assert late.stdout == b"late\n"
    for run in waiting:
        await run
    assert started == [*map(str, range(20)), "late"]


async def test_output_that_cannot_be_received_is_not_held(new_pool, monkeypatch):
    pool = new_pool(1, max_output_total=TOTAL)
    await pool.execute(CommandConfig("true"))
    connection = pool._workers[0]._program.connection
    receive = connection.receive_descriptors

    def lose(number: int, count: int) -> list[int]:
        for fd in receive(number, count):
            os.close(fd)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(connection, "receive_descriptors", lose)
    with pytest.raises(IoError):
        await pool.execute(helper("write_n_bytes", 200_000))
    assert pool._ledger.held() == 0


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="no prlimit(2) here")
async def test_output_that_cannot_be_kept_is_not_held(new_pool):
    pool = new_pool(1, max_output_total=TOTAL)
    await pool.execute(CommandConfig("true"))
    worker = pool.statistics().pids[0]
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))  # bytes of a file: EFBIG
    with pytest.raises(IoError, match="could not be kept"):
        await pool.execute(helper("write_n_bytes", 200_000))
    assert pool._ledger.held() == 0


async def test_a_pool_of_many_workers_has_a_page_for_each(new_pool):
    pool = new_pool(PAGES + 3, max_output_total=10_000_000)
    runs = in_background(pool, *(helper("write_n_bytes", 100_000) for _ in range(PAGES + 3)))
    for run in runs:
        assert (await run).stdout == pattern(100_000)
    assert pool._ledger.held() == 0


def test_a_page_is_taken_over_with_its_count():
    ledger = Ledger(1000)
    first = ledger.page()
    word = int(str(first).split(":")[1])
    ledger.words[word] += 600
    first.give_back(100)
    assert ledger.held() == 500
    first.close()
    first.close()
    assert ledger.held() == 0
    ledger._free = [word]
    second = ledger.page()
    ledger.words[word] += 1000
    assert ledger.held() == 1000
    assert not ledger.has_headroom()
    second.give_back(1000)
    assert ledger.has_headroom()
    second.close()
    assert ledger.held() == 0
    ledger.close()
    ledger.close()
    second.give_back(5)


def test_a_look_of_the_pool_between_two_steps_of_a_worker_does_not_hide_that_all_is_used_up(monkeypatch):
    ledger = Ledger(100_000)
    page = ledger.page()
    monkeypatch.setattr(budget, "ledger", ledger.descriptor)
    monkeypatch.setattr(budget, "own_word", int(str(page).partition(":")[2]))
    monkeypatch.setattr(budget, "_mapped", None)
    count = budget.left(200_000)
    assert ledger.has_headroom()  # nothing has been put in yet
    budget.add(count)
    assert ledger.words[USED_UP]
    assert not ledger.has_headroom()
    assert ledger.words[USED_UP]
    page.close()
    assert ledger.has_headroom()
    assert not ledger.words[USED_UP]
    ledger.close()


def test_the_file_of_a_ledger_cannot_be_made_shorter_beneath_the_pool():
    ledger = Ledger(1000)
    ledger.page()
    if hasattr(os, "memfd_create"):
        with pytest.raises(PermissionError):
            os.ftruncate(ledger.descriptor, 0)
    assert ledger.words[LIMIT] == 1000
    assert not ledger.words[USED_UP]
    ledger.close()


def test_a_ledger_that_could_not_be_made_at_first_has_its_limit_when_it_can(monkeypatch):
    ledger = Ledger(1000)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with monkeypatch.context() as patch:
        patch.setattr(mmap, "mmap", refuse)
        with pytest.raises(OSError, match="memory"):
            ledger.page()
    page = ledger.page()
    assert ledger.words[LIMIT] == 1000
    page.close()
    ledger.close()


def test_where_memory_files_are_forbidden_a_ledger_is_a_file_without_a_name(monkeypatch):
    def forbid(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "memfd_create", forbid, raising=False)
    ledger = Ledger(1000)
    ledger.page()
    assert os.fstat(ledger.descriptor).st_nlink == 0
    assert ledger.words[LIMIT] == 1000
    ledger.close()


@pytest.mark.parametrize("limit", [2**62, 2**63 - 1, 2**63, 10**400], ids=["62", "63-1", "63", "huge"])
async def test_a_budget_that_no_machine_has_is_as_good_as_none(new_pool, limit):
    pool = new_pool(1, max_output_total=limit)
    await pool.start()
    assert len((await pool.execute(helper("write_n_bytes", FLOOD))).stdout) == FLOOD
    assert pool._ledger.held() == 0
