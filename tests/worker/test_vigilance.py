"""What a host makes of what it sees of a busy worker: pure decisions first, then a scripted worker."""

import asyncio
import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import anyio.to_thread
import pytest
from contract.support import FOREVER, is_dead, is_gone, outcome

from aiocmdpool.backends.workers import burial, fitness, heartbeat
from aiocmdpool.backends.workers.fitness import Fitness, fitness_of, what_was_taken
from aiocmdpool.backends.workers.heartbeat import STARVED_TIMES, hung_because
from aiocmdpool.backends.workers.pending import WorkerUnfit
from aiocmdpool.backends.workers.worker import Worker
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import IoError, WorkerLost
from aiocmdpool.standalone.kernel.processes import Process, vfork_child_of

from .support import PATIENCE, wait_until
from .test_worker import COMMAND, Workers, assert_lost, greeted

pytestmark = [pytest.mark.slow, pytest.mark.one_loop("asyncio", "uvloop")]

FAILED = 'write(encode(frames.FAILED, start(), messages.pack_failed({}, "program")))\n'


# -- hung, or starved ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "cpu", "silent", "word"),
    [
        ("S", 0.0, 2.0, ""),  # not for longer than it may
        ("T", 0.0, 2.0, ""),
        ("R", 2.0, 2.0, ""),
        ("S", 0.0, 3.0, "hung"),  # it sleeps on a PING
        ("T", 0.0, 3.0, "stopped by a signal"),
        ("t", 0.0, 3.0, "traces"),
        ("D", 0.0, 3.0, "state D"),
        ("", 0.0, 3.0, "stopped"),  # not to be seen: hung, or stopped
        ("R", 2.0, 3.0, "hung"),  # it burns its CPU
        ("R", 0.0, 3.0, ""),  # it waits for its turn
        ("R", 1.9, 3.0, ""),
        ("R", 0.0, 2.0 * STARVED_TIMES, ""),
        ("R", 0.0, 2.0 * STARVED_TIMES + 1, "hung"),  # even that has an end
    ],
)
def test_a_worker_is_hung_if_it_could_have_answered(state, cpu, silent, word):
    why = hung_because(state, cpu, silent, 2.0)
    assert bool(why) == bool(word)
    assert word in why
    assert not why or "2 s" in why


@pytest.fixture
async def workers(monkeypatch) -> AsyncIterator[Workers]:
    """As in the tests of the worker; they may have been written off before they were gone."""
    workers = Workers(monkeypatch)
    yield workers
    for worker in workers.made:
        worker._lose("the test is over")
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE):
        for worker in workers.made:
            await worker.ended
        while not all(is_gone(worker.pid) for worker in workers.made) or is_reaping():
            await asyncio.sleep(0.005)
    for worker in workers.made:
        workers.guardian.gone(worker.pid)
    workers.guardian.retire()


def is_reaping() -> bool:
    """Whether the thread is there that sees to those that were written off."""
    return any(thread.name == "aiocmdpool-reaper" for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def quick_beats(monkeypatch) -> None:
    monkeypatch.setattr(heartbeat, "HEARTBEAT", 0.05)


async def test_a_worker_that_gets_no_cpu_is_waited_for(workers, monkeypatch):
    state = "R"
    monkeypatch.setattr(heartbeat, "state_of", lambda pid: (state, 0.0, 1))
    worker = workers("hello(); start(); be_silent()", hang_after=0.2)
    await greeted(worker)
    running = asyncio.ensure_future(outcome(worker.execute(COMMAND)))
    done, _ = await asyncio.wait([running], timeout=0.8)
    assert not done
    state = "S"
    assert_lost(await asyncio.wait_for(running, PATIENCE), "hung")


def vforks(path: str) -> str:
    """The script of a worker that stands still until the program it starts can open a FIFO, as in a slow `exec`."""
    return f"""
        hello()
        start()
        files = [(os.POSIX_SPAWN_OPEN, 0, {path!r}, os.O_RDONLY, 0)]
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {{}}, file_actions=files), 0)
        be_silent()
    """


@pytest.mark.parametrize(("state", "is_starved"), [(b"R", True), (b"S", False), (b"D", False)])
async def test_a_worker_whose_new_program_gets_no_cpu_is_waited_for(workers, tmp_path, monkeypatch, state, is_starved):
    """In vfork(2) it is held by the kernel until the child has come to its `exec`; that may be starved, or hang."""

    def child_of(pid: int) -> Process | None:
        child = vfork_child_of(pid)
        if child is not None:  # in open(2), or on its way there
            child.state = state
        return child

    monkeypatch.setattr(heartbeat, "vfork_child_of", child_of)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    worker = workers(vforks(str(fifo)), hang_after=0.2)
    await greeted(worker)
    running = asyncio.ensure_future(outcome(worker.execute(COMMAND)))
    done, _ = await asyncio.wait([running], timeout=1.0 if is_starved else PATIENCE)
    assert bool(done) is not is_starved
    if is_starved:
        with open(fifo, "wb"):  # that lets it go on
            assert_lost(await asyncio.wait_for(running, PATIENCE), "hung")
    else:
        assert_lost(running.result(), "hung, held by the kernel (state D)")


@pytest.mark.parametrize("is_starved", [True, False])
async def test_a_worker_that_comes_up_is_waited_for_while_any_thread_of_it_gets_no_cpu(
    workers, monkeypatch, is_starved
):
    """The first one sleeps until the worker is in its control group."""
    monkeypatch.setattr(heartbeat, "STARTS_WITHIN", 0.2)
    monkeypatch.setattr(heartbeat, "has_runnable_thread", lambda pid: is_starved)
    worker = workers("be_silent()", hang_after=0.2)
    running = asyncio.ensure_future(outcome(worker.execute(COMMAND)))
    done, _ = await asyncio.wait([running], timeout=0.8 if is_starved else PATIENCE)
    assert bool(done) is not is_starved
    worker._lose("enough")
    await running


@pytest.mark.parametrize("thread_is_busy", [True, False])
def test_a_thread_that_runs_is_seen_behind_one_that_sleeps(thread_is_busy):
    program = """\
import sys, threading

def run():
    while busy:
        pass

busy = sys.argv[1] == "True"
threading.Thread(target=run, daemon=True).start()
print("up", flush=True)
sys.stdin.read()
"""
    argv = [sys.executable, "-c", program, str(thread_is_busy)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        wait_until(lambda: heartbeat.has_runnable_thread(process.pid) is thread_is_busy)
        if thread_is_busy:  # the first one waits for input
            wait_until(lambda: (heartbeat.state_of(process.pid) or ("",))[0] == "S")
            assert heartbeat.has_runnable_thread(process.pid)
        process.kill()


async def test_a_worker_that_gets_no_cpu_is_not_blamed_for_a_deadline(workers, monkeypatch):
    monkeypatch.setattr("aiocmdpool.backends.workers.pending.OVERDUE_AFTER", 0.05)
    monkeypatch.setattr("aiocmdpool.backends.workers.pending.UNKILLABLE_AFTER", 0.0)
    monkeypatch.setattr(heartbeat, "state_of", lambda pid: ("R", 0.0, 1))
    worker = workers("hello(); write(started(start())); be_silent()", hang_after=1.0)
    running = asyncio.ensure_future(outcome(worker.execute(COMMAND.with_options(timeout=0.05, grace=0.05))))
    await greeted(worker)
    done, _ = await asyncio.wait([running], timeout=0.8)
    assert not done
    worker._lose("enough")
    assert isinstance(await running, WorkerLost)


async def test_a_worker_that_is_silent_and_not_starved_is_blamed_for_a_deadline(workers, monkeypatch):
    """That may come long before it counts as hung."""
    monkeypatch.setattr("aiocmdpool.backends.workers.pending.OVERDUE_AFTER", 0.05)
    monkeypatch.setattr("aiocmdpool.backends.workers.pending.UNKILLABLE_AFTER", 0.0)
    worker = workers("hello(); write(started(start())); be_silent()", hang_after=FOREVER)
    error = await asyncio.wait_for(outcome(worker.execute(COMMAND.with_options(timeout=0.05, grace=0.05))), PATIENCE)
    assert isinstance(error, WorkerLost)
    assert "deadline" in str(error)


async def test_a_worker_that_burns_its_cpu_and_does_not_answer_is_hung(workers):
    worker = workers("hello(); start()\nwhile True: pass", hang_after=0.2)
    await greeted(worker)
    running = asyncio.ensure_future(outcome(worker.execute(COMMAND)))
    assert_lost(await asyncio.wait_for(running, PATIENCE), "hung")


async def test_a_worker_is_asked_before_it_counts_as_hung(workers, monkeypatch):
    """However short the time that it has: an answer is waited for at least for a beat."""
    monkeypatch.setattr(heartbeat, "HEARTBEAT", 0.3)
    script = "hello(); number = start(); _, ping, _ = take(); write(pong(ping) + result(number)); serve()"
    worker = workers(script, hang_after=0.1)
    await greeted(worker)
    assert (await worker.execute(COMMAND)).stdout == b"fake"


# -- a reply is lost -------------------------------------------------------------------------------------------------


async def test_a_request_that_the_worker_does_not_hold_is_lost(workers):
    retired: list[str] = []
    worker = workers("hello(); start(); held.clear(); answer_pings()")
    worker._unfit = lambda _, why: retired.append(why) or True
    error = await asyncio.wait_for(outcome(worker.execute(COMMAND)), PATIENCE)
    assert_lost(error, "reply was lost", str(worker.pid))
    assert not worker.usable
    [why] = retired
    assert "replies" in why
    assert worker.lost_because is None  # it finishes what it has


async def test_what_the_worker_holds_is_not_lost_with_it(workers, ready, release):
    script = f"""
        hello()
        lost = start()
        kept = start()
        del held[lost]
        go = os.open({release.path!r}, os.O_RDONLY | os.O_NONBLOCK)
        say({ready.path!r})
        while True:
            write(pong(take()[1]))
            try:
                os.read(go, 10)
                write(result(kept))
            except BlockingIOError:
                pass
    """
    worker = workers(script)
    running = [asyncio.ensure_future(outcome(worker.execute(COMMAND))) for _ in range(2)]
    await ready.wait()
    assert_lost(await asyncio.wait_for(running[0], PATIENCE), "reply was lost")
    release.send()
    assert (await running[1]).stdout == b"fake"


async def test_a_cancelled_command_whose_reply_is_lost_is_cancelled(workers, ready):
    script = f"""
        hello()
        start()
        say({ready.path!r})
        while (frame := take())[0] != frames.CANCEL:
            write(pong(frame[1]))
        held.clear()
        answer_pings()
    """
    worker = workers(script)
    running = asyncio.ensure_future(worker.execute(COMMAND))
    await ready.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await running
    assert_lost(caught.value.__cause__, "reply was lost")


async def test_an_answer_to_an_older_ping_proves_nothing(workers, ready):
    """What was sent since is not in it."""
    script = f"""
        hello()
        start()
        held.clear()
        for beat in range(10):
            write(pong(take()[1] - 1))
        say({ready.path!r})
        be_silent()
    """
    worker = workers(script)
    running = asyncio.ensure_future(outcome(worker.execute(COMMAND)))
    await ready.wait()
    assert not running.done()
    worker._lose("enough")
    assert_lost(await running, "enough")


async def test_requests_that_have_not_left_are_not_lost(workers, ready):
    """They wait here while the worker does not read; many beats long."""
    worker = workers(f"hello(); open({ready.path!r}).readline(); serve()")
    await greeted(worker)
    command = COMMAND.with_options(args=["x" * 1500])
    async with asyncio.timeout(PATIENCE):
        running = []
        while not worker._program.connection.congested:
            running.append(asyncio.ensure_future(worker.execute(command)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await asyncio.sleep(0.3)
        ready.send()
        assert {end.stdout for end in await asyncio.gather(*running)} == {b"fake"}


async def test_a_pong_that_is_no_list_of_requests_costs_the_worker(workers):
    error = await workers.run("hello(); start(); _, ping, _ = take(); write(encode(frames.PONG, ping, b'odd')); take()")
    assert_lost(error, "garbage")


# -- what was taken from it ------------------------------------------------------------------------------------------

GIVEN = Fitness({"Max open files": (1024.0, 4096.0), "Max cpu time": (float("inf"),) * 2}, frozenset((0, 1, 2)))


@pytest.mark.parametrize(
    ("limits", "cpus", "word"),
    [
        ({}, {0, 1, 2}, ""),
        ({"Max open files": (1024.0, 4096.0)}, {0, 1, 2}, ""),
        ({"Max open files": (4096.0, 4096.0)}, {0, 1, 2, 3}, ""),  # more is no loss
        ({"Max open files": (1023.0, 4096.0)}, {0, 1, 2}, "Max open files"),
        ({"Max open files": (1024.0, 1024.0)}, {0, 1, 2}, "4096"),
        ({"Max cpu time": (5.0, float("inf"))}, {0, 1, 2}, "Max cpu time"),
        ({"Max something new": (5.0, 5.0)}, {0, 1, 2}, ""),
        ({}, {0, 1}, "of its 3 CPUs it may use 2"),
        ({}, {3, 4, 5}, "of its 3 CPUs it may use 0"),
    ],
)
def test_a_worker_has_lost_something_if_it_may_do_less_than_before(limits, cpus, word):
    why = what_was_taken(GIVEN, Fitness(limits, frozenset(cpus)))
    assert bool(why) == bool(word)
    assert word in why


@pytest.mark.parametrize(
    ("given", "left", "word"),
    [
        ({}, {"niceness": 1}, "niceness"),
        ({"niceness": 5}, {"niceness": 5}, ""),
        ({"niceness": 5}, {"niceness": 0}, ""),
        ({"niceness": -5}, {"niceness": 0}, ""),  # real-time hosts may not hand it on
        ({}, {"policy": os.SCHED_IDLE}, "policy"),
        ({}, {"policy": os.SCHED_BATCH}, "policy"),
        ({"policy": os.SCHED_BATCH}, {"policy": os.SCHED_IDLE}, "policy"),
        ({"policy": os.SCHED_IDLE}, {"policy": os.SCHED_OTHER}, ""),
        ({"policy": os.SCHED_FIFO | os.SCHED_RESET_ON_FORK}, {"policy": os.SCHED_OTHER}, ""),
        ({"idle_io": False}, {"idle_io": True}, "I/O"),
        ({"idle_io": True}, {"idle_io": True}, ""),
        ({"idle_io": None}, {"idle_io": True}, ""),  # of a kernel that did not tell
    ],
)
def test_a_worker_that_the_scheduler_prefers_less_than_before_has_lost_something(given, left, word):
    why = what_was_taken(GIVEN._replace(**given), GIVEN._replace(**left))
    assert bool(why) == bool(word)
    assert word in why


def test_what_a_process_has_is_what_the_kernel_says():
    found = fitness_of()
    assert found == fitness_of(os.getpid())
    soft, hard = (float("inf") if n < 0 else float(n) for n in resource.getrlimit(resource.RLIMIT_NOFILE))
    assert found.limits["Max open files"] == (soft, hard)
    assert len(found.limits) > 10
    assert found.cpus == os.sched_getaffinity(0)


def test_of_a_process_that_is_gone_nothing_is_known():
    pid = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitpid(pid, 0)
    assert fitness_of(pid) is None


def with_replacement(worker: Worker) -> list[str]:
    """As if there were a pool, which notes the reasons."""
    reasons: list[str] = []
    worker._unfit = lambda _, why: reasons.append(why) or True
    return reasons


async def failures(worker: Worker, count: int, command: CommandConfig = COMMAND) -> list[Any]:
    return [await outcome(worker.execute(command)) for _ in range(count)]


async def test_a_worker_that_fails_start_after_start_is_replaced(workers):
    worker = workers(f"hello()\n{FAILED.format(errno.EAGAIN) * 3}serve()")
    reasons = with_replacement(worker)
    ends = await failures(worker, 3)
    assert [type(end) for end in ends] == [IoError, IoError, WorkerUnfit]
    assert ends[2].error.errno == errno.EAGAIN
    assert not worker.usable
    [why] = reasons
    assert "3 starts in a row" in why


@pytest.mark.parametrize(
    ("script", "options"),
    [
        (FAILED.format(errno.ENOENT) * 3, {}),
        (FAILED.format(errno.EAGAIN) * 2 + "write(result(start()))\n" + FAILED.format(errno.EAGAIN) * 2, {}),
        (FAILED.format(errno.EMFILE).replace("program", "output") * 3, {}),  # it has run
        (FAILED.format(errno.EPERM) * 3, {}),  # as for one that may not become somebody else
        (FAILED.format(errno.ENOMEM) * 3, {"niceness": 1}),  # it may have asked for that itself
    ],
    ids=["of the command", "not in a row", "output", "permission", "with settings"],
)
async def test_starts_that_fail_for_other_reasons_are_no_fault_of_the_worker(workers, script, options):
    worker = workers(f"hello()\n{script}serve()")
    reasons = with_replacement(worker)
    ends = await failures(worker, 5, COMMAND.with_options(**options))
    assert not any(isinstance(end, WorkerUnfit) for end in ends)
    assert worker.usable
    assert reasons == []


async def test_a_worker_that_cannot_be_replaced_is_kept(workers):
    worker = workers(f"hello()\n{FAILED.format(errno.EAGAIN) * 7}serve()")
    reasons: list[str] = []
    worker._unfit = lambda _, why: reasons.append(why)
    assert {type(end) for end in await failures(worker, 7)} == {IoError}
    assert worker.usable
    assert len(reasons) == 7 // fitness.STARTS_IN_A_ROW


async def test_a_cancelled_command_that_an_unfit_worker_did_not_start_is_cancelled(workers, ready):
    script = f"hello()\n{FAILED.format(errno.EAGAIN) * 2}number = start(); say({ready.path!r}); take()\n"
    worker = workers(script + 'write(encode(frames.FAILED, number, messages.pack_failed(11, "program")))\nserve()')
    with_replacement(worker)
    await failures(worker, 2)
    running = asyncio.ensure_future(worker.execute(COMMAND))
    await ready.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await running
    assert isinstance(caught.value.__cause__, IoError)


# -- it does not die -------------------------------------------------------------------------------------------------


@pytest.fixture
def unkillable(monkeypatch) -> None:
    """Workers that SIGKILL does not end: nobody sends it."""
    monkeypatch.setattr(burial, "KILL_TIMEOUT", 0.1)
    monkeypatch.setattr("aiocmdpool.backends.workers.process.WorkerProgram.kill", lambda _: None)


async def written_off(worker: Worker, *words: str) -> None:
    """That it is settled without being dead, and reaped when it is."""
    running = asyncio.ensure_future(outcome(worker.execute(COMMAND)))
    await greeted(worker)
    await asyncio.sleep(0.05)
    worker._lose("it is of no use")
    assert_lost(await asyncio.wait_for(running, PATIENCE), "it is of no use", *words)
    assert await asyncio.wait_for(worker.aclose(), PATIENCE) is None
    assert not is_dead(worker.pid)
    os.kill(worker.pid, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE):
        while not is_gone(worker.pid):
            await asyncio.sleep(0.005)


async def test_a_worker_that_does_not_die_is_written_off_and_reaped_when_it_does(workers, unkillable):
    await written_off(workers("hello(); be_silent()"), "still there (state S)")


async def test_a_worker_that_the_kernel_holds_is_called_so(workers, unkillable, monkeypatch):
    monkeypatch.setattr("aiocmdpool.standalone.kernel.procfs.state_of", lambda pid: ("D", 0.0, 0))
    await written_off(workers("hello(); be_silent()"), "the kernel holds it (state D)")


async def test_a_worker_that_may_not_be_signalled_is_written_off_as_well(workers, monkeypatch):
    """This process was root when it started it."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(burial, "KILL_TIMEOUT", 0.1)
    monkeypatch.setattr(signal, "pidfd_send_signal", refuse)
    await written_off(workers("hello(); be_silent()"), "may not signal it")


async def test_a_killed_worker_that_gets_no_cpu_to_die_is_waited_for(workers, unkillable, monkeypatch):
    state = "R"
    monkeypatch.setattr("aiocmdpool.standalone.kernel.procfs.state_of", lambda pid: (state, 0.0, 0))
    worker = workers("hello(); be_silent()")
    running = asyncio.ensure_future(outcome(worker.execute(COMMAND)))
    await greeted(worker)
    worker._lose("it is of no use")
    done, _ = await asyncio.wait([running], timeout=0.3)
    assert not done
    state = "S"
    assert isinstance(await asyncio.wait_for(running, PATIENCE), WorkerLost)


async def test_a_death_is_settled_though_callers_hold_all_the_threads_of_anyio(workers):
    worker = workers("hello(); start(); os._exit(1)", hang_after=FOREVER)
    limiter = anyio.to_thread.current_default_thread_limiter()
    tokens, limiter.total_tokens = limiter.total_tokens, 1
    try:
        async with limiter:
            assert_lost(await asyncio.wait_for(outcome(worker.execute(COMMAND)), PATIENCE))
    finally:
        limiter.total_tokens = tokens


async def test_a_death_is_settled_though_no_thread_can_be_started(workers, monkeypatch):
    worker = workers("hello(); start(); os._exit(1)")

    async def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(anyio.to_thread, "run_sync", refuse)
    assert_lost(await asyncio.wait_for(outcome(worker.execute(COMMAND)), PATIENCE))
