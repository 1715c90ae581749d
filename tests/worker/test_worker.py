"""One worker as the parent sees it, with a worker program that does everything wrong that can be done."""

import asyncio
import os
import signal
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from contract.support import FOREVER, assert_dead, is_dead, is_gone, outcome

import aiocmdpool.standalone
from aiocmdpool.backends.workers import heartbeat
from aiocmdpool.backends.workers import pending as pending_module
from aiocmdpool.backends.workers import process as program_module
from aiocmdpool.backends.workers import worker as worker_module
from aiocmdpool.backends.workers.connection import HIGH_WATER
from aiocmdpool.backends.workers.guardian import Guardian
from aiocmdpool.backends.workers.ledger import Ledger
from aiocmdpool.backends.workers.pending import RequestNotSent
from aiocmdpool.backends.workers.worker import Worker
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ExecuteError, IoError, WorkerLost
from aiocmdpool.standalone.wire import frames
from aiocmdpool.system import exit_watch

from .support import PATIENCE, PROGRAMS, exit_frame, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.one_loop("asyncio", "uvloop")]  # debug mode shows nothing new here

COMMAND = CommandConfig("some-program", ["with", "arguments"])
PACKAGE = str(Path(aiocmdpool.standalone.__path__[0]).parent)


class Workers:
    """Makes workers whose program follows a script."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.made: list[Worker] = []
        self.gone: list[Worker] = []
        self.guardian = Guardian(lambda: None)
        monkeypatch.setattr(program_module, "FOLDER", str(PROGRAMS / "bad_worker"))
        monkeypatch.setenv("BAD_WORKER_CODEC", PACKAGE)

    def __call__(self, script: str, *, hang_after: float = FOREVER) -> Worker:
        self._monkeypatch.setenv("BAD_WORKER", textwrap.dedent(script))
        worker = Worker(0, Ledger(None), hang_after, self.gone.append, self.guardian)
        self.made.append(worker)
        return worker

    async def run(self, script: str, **options: Any) -> Any:
        """What becomes of a command in such a worker."""
        async with asyncio.timeout(PATIENCE):
            return await outcome(self(script, **options).execute(COMMAND))


@pytest.fixture
async def workers(monkeypatch) -> AsyncIterator[Workers]:
    workers = Workers(monkeypatch)
    yield workers
    for worker in workers.made:
        worker._lose("the test is over")
    async with asyncio.timeout(PATIENCE):
        for worker in workers.made:
            await worker.ended
    for worker in workers.made:
        workers.guardian.gone(worker.pid)
    workers.guardian.retire()
    assert sorted(map(id, workers.gone)) == sorted(map(id, workers.made))  # told once, of each
    assert all(is_gone(worker.pid) for worker in workers.made)


@pytest.fixture
def quick_beats(monkeypatch) -> None:
    """Look at busy workers more often than every second."""
    monkeypatch.setattr(heartbeat, "HEARTBEAT", 0.05)


async def greeted(worker: Worker) -> None:
    async with asyncio.timeout(PATIENCE):
        while not worker.ready:
            await asyncio.sleep(0.001)


def assert_lost(error: object, *words: str) -> None:
    assert isinstance(error, WorkerLost), error
    assert error.command is COMMAND
    for word in ("some-program", "may have run", *words):
        assert word in str(error)


async def test_the_fake_can_behave(workers):
    worker = workers("hello(); serve()")
    results = [await worker.execute(COMMAND) for _ in range(3)]
    assert [(result.returncode, result.stdout) for result in results] == [(0, b"fake")] * 3
    assert worker.ready
    assert worker.completed == 3
    assert repr(worker) == f"<Worker {worker.pid} ready, 0 in flight, 3 completed>"


# -- it dies ---------------------------------------------------------------------------------------------------------


async def all_cuts(workers: Workers, stream: str, length: int, script: str) -> list[Any]:
    """What becomes of a command whose worker dies after each byte of a stream; from none to all of it."""
    outcomes: list[Any] = []
    for first in range(0, length + 1, 10):  # few at a time: the machine is small
        batch = range(first, min(first + 10, length + 1))
        scripts = [f"{script}\nwrite(({stream})[:{cut}]); os._exit(3)" for cut in batch]
        outcomes += await asyncio.gather(*map(workers.run, scripts))
    return outcomes


async def test_a_worker_that_dies_at_any_byte_of_its_reply_costs_the_command(workers):
    length = len(exit_frame(1, stdout=b"fake"))
    *cut, whole = await all_cuts(workers, "result(number)", length, "hello(); number = start()")
    for error in cut:
        assert_lost(error)
    assert whole.stdout == b"fake"


async def test_a_worker_that_dies_at_any_byte_of_its_hello_has_not_run_the_command(workers):
    stream = "encode(frames.HELLO, 0, messages.pack_hello(frames.PROTOCOL_VERSION, os.getpid()))"
    *cut, whole = await all_cuts(workers, stream, 12 + 5 + 6, "number = start()")
    assert {type(error) for error in cut} == {RequestNotSent}
    assert_lost(whole, "status 3")


async def test_a_worker_that_dies_at_any_byte_after_the_start_costs_the_command(workers):
    length = 12 + 5 + 4
    outcomes = await all_cuts(workers, "started(number)", length, "hello(); number = start()")
    for error in outcomes:
        assert_lost(error)


async def test_the_death_of_a_worker_costs_all_it_has_been_given_and_names_the_cause(workers):
    worker = workers("hello(); [start() for _ in range(5)]; os.kill(os.getpid(), 9)")
    errors = await asyncio.gather(*(outcome(worker.execute(COMMAND)) for _ in range(5)))
    for error in errors:
        assert_lost(error, str(worker.pid), "killed by", "9")
    assert not worker.usable
    assert worker.in_flight == 0


async def test_replies_before_the_death_count(workers):
    script = """
        hello()
        numbers = [start() for _ in range(4)]
        write(result(numbers[2]) + result(numbers[0]))
        os._exit(1)
    """
    worker = workers(script)
    ends = await asyncio.gather(*(outcome(worker.execute(COMMAND)) for _ in range(4)))
    assert [getattr(end, "stdout", None) for end in ends] == [b"fake", None, b"fake", None]
    assert_lost(ends[1])
    assert_lost(ends[3])


async def test_replies_count_though_the_death_is_heard_of_first(workers, ready, monkeypatch):
    """A thread tells of it where there is no pidfd, and the loop may have been busy meanwhile."""
    monkeypatch.setattr(program_module, "watch_exit", exit_watch._ThreadWatch)
    worker = workers(f"hello(); number = start(); say({ready.path!r}); write(result(number)); os._exit(1)")
    running = asyncio.ensure_future(worker.execute(COMMAND))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    ready.wait_blocking()
    wait_until(lambda: is_dead(worker.pid))
    worker._program._watch._thread.join()
    assert (await running).stdout == b"fake"


async def test_a_worker_that_exits_at_once_has_run_nothing(workers):
    assert isinstance(await workers.run("os._exit(0)"), RequestNotSent)
    [worker] = workers.made
    assert not worker.proven


async def test_the_last_words_of_a_worker_are_told(workers):
    error = await workers.run("hello(); start(); sys.exit('I have had enough')")
    assert_lost(error, "I have had enough", "status 1")


async def test_a_traceback_of_a_worker_is_told(workers):
    error = await workers.run("hello(); start(); 1 / 0")
    assert_lost(error, "ZeroDivisionError")


async def test_a_flood_on_stderr_is_read_and_only_its_end_is_kept(workers):
    script = """
        hello()
        for _ in range(20):
            os.write(2, b"x" * 100_000)
        start()
        os.write(2, b"the very last")
        os._exit(1)
    """
    error = await workers.run(script)
    assert_lost(error, "the very last")
    assert len(str(error)) < 2000
    [worker] = workers.made
    assert len(worker._program._stderr.result()) <= program_module.STDERR_TAIL


async def test_a_worker_that_floods_stderr_goes_on_working(workers):
    """A full pipe that nobody reads would stop it."""
    worker = workers("hello()\nwhile True:\n    n = start(); os.write(2, b'x' * 1_000_000); write(result(n))")
    for _ in range(3):
        assert (await worker.execute(COMMAND)).stdout == b"fake"


# -- it says what makes no sense -------------------------------------------------------------------------------------

NONSENSE = {
    "garbage": "write(b'Hello, world! This is no frame.')",
    "zeros": "write(bytes(1000))",
    "a print": "print('debugging', flush=True)",
    "a frame cut and followed by another": "write(result(number)[:40] + result(number))",
    "a damaged frame": "write(result(number)[:-1] + b'X')",
    "an answer that was not asked for": "write(result(number + 1))",
    "a refusal of what was not asked for": "write(encode(frames.FAILED, 99, messages.pack_failed(2, 'program')))",
    "a request": "write(encode(frames.START, number))",
    "a cancel": "write(encode(frames.CANCEL, number, b'0'))",
    "a close": "write(encode(frames.CLOSE, 0))",
    "a ping": "write(encode(frames.PING, 0))",
    "a kind that is none": "write(encode(77, number))",
    "descriptors that do not come": "write(result(number, flags=messages.STDOUT_HANDED_OVER))",
    "descriptors of another": "hand_over(number + 1, 0); write(result(number, flags=messages.STDOUT_HANDED_OVER))",
    "too many descriptors": "hand_over(number, 0, 2); write(result(number, flags=messages.STDOUT_HANDED_OVER))",
    "too few descriptors": "hand_over(number, 0); write(result(number, flags=12))",
    "descriptors with an answer that was not asked for": "hand_over(99, 0); write(result(99, flags=4))",
    "an exit without content": "write(encode(frames.EXIT, number))",
    "an exit that is too short": "write(encode(frames.EXIT, number, bytes(30)))",
    "an exit for a reason that is none": "write(result(number, reason=77))",
    "a start without a pid": "write(encode(frames.STARTED, number, b'x'))",
    "a refusal without a number": "write(encode(frames.FAILED, number, b'x'))",
    "a stage that is no text": "write(encode(frames.FAILED, number, bytes(4) + bytes([255])))",
    "the end of its pipe": "os.close(1)",
}


@pytest.mark.parametrize("what", NONSENSE)
async def test_nonsense_costs_the_worker_and_what_it_runs_and_no_more(workers, quick_beats, what):
    """The worker stays where it is until it is killed."""
    sleeping = "\nanswer_pings()"
    error = await workers.run("hello(); number = start()\n" + NONSENSE[what] + sleeping)
    assert_lost(error)
    [worker] = workers.made
    assert not worker.usable
    await asyncio.wait([worker.ended], timeout=PATIENCE)
    assert worker.ended.done()


async def test_an_answer_that_comes_twice_costs_the_worker_and_not_the_command_it_was_for(workers):
    worker = workers("hello(); first = start(); write(result(first)); start(); write(result(first)); answer_pings()")
    assert (await worker.execute(COMMAND)).stdout == b"fake"
    assert_lost(await outcome(worker.execute(COMMAND)), "garbage")


async def test_an_answer_that_comes_twice_at_once_leaves_no_descriptor(workers):
    script = """
        hello()
        number = start()
        spool = os.memfd_create("spool")
        os.write(spool, b"large")
        hand_over(number, spool)
        hand_over(number, spool)
        write(result(number, flags=messages.STDOUT_HANDED_OVER) * 2)
        answer_pings()
    """
    end = await workers.run(script)
    assert isinstance(end, WorkerLost) or end.stdout == b"large"


async def test_garbage_before_the_hello_has_run_nothing(workers):
    assert isinstance(await workers.run("print('import error', flush=True); answer_pings()"), RequestNotSent)


# -- it does nothing -------------------------------------------------------------------------------------------------


async def test_a_worker_that_says_nothing_is_taken_for_hung(workers, quick_beats):
    worker = workers("hello(); start(); be_silent()", hang_after=0.3)
    await greeted(worker)
    error = await asyncio.wait_for(outcome(worker.execute(COMMAND)), PATIENCE)
    assert_lost(error, "0.3 s", "hung")


async def test_a_worker_that_is_stopped_is_taken_for_hung(workers, quick_beats):
    worker = workers("hello(); number = start(); write(started(number)); answer_pings()", hang_after=0.3)
    await greeted(worker)
    running = asyncio.ensure_future(outcome(worker.execute(COMMAND)))
    await asyncio.sleep(0)  # it has left
    async with asyncio.timeout(PATIENCE):
        os.kill(worker.pid, signal.SIGSTOP)
        assert_lost(await running, "stopped")


async def test_a_worker_that_never_says_hello_has_run_nothing(workers, quick_beats, monkeypatch):
    monkeypatch.setattr(heartbeat, "STARTS_WITHIN", 0.3)
    assert isinstance(await workers.run("be_silent()", hang_after=0.3), RequestNotSent)


async def test_a_worker_that_starts_has_more_time_than_one_that_works(workers, quick_beats, monkeypatch):
    monkeypatch.setattr(heartbeat, "STARTS_WITHIN", FOREVER)
    worker = workers("time.sleep(1); hello(); number = start(); write(result(number))", hang_after=0.1)
    assert (await worker.execute(CommandConfig("true"))).returncode == 0


async def test_a_worker_that_answers_pings_is_not_hung_however_long_its_command_takes(workers, quick_beats):
    worker = workers("hello()\nwhile take()[0] != frames.START: pass\nanswer_pings()", hang_after=0.5)
    await greeted(worker)
    running = asyncio.ensure_future(worker.execute(COMMAND))
    done, _ = await asyncio.wait([running], timeout=0.8)
    assert not done
    assert worker.usable
    worker._lose("enough")
    assert_lost(await outcome(running), "enough")


async def test_a_worker_that_does_not_keep_a_deadline_is_replaced(workers, quick_beats, monkeypatch):
    monkeypatch.setattr(pending_module, "OVERDUE_AFTER", 0.2)
    monkeypatch.setattr(pending_module, "UNKILLABLE_AFTER", 0.0)
    worker = workers("hello(); number = start(); write(started(number)); answer_pings()")
    command = COMMAND.with_options(timeout=0.05, grace=0.05)
    async with asyncio.timeout(PATIENCE):
        error = await outcome(worker.execute(command))
    assert isinstance(error, WorkerLost)
    assert "deadline" in str(error)


async def test_an_idle_worker_is_not_asked_whether_it_is_there(workers, quick_beats):
    worker = workers("hello(); number = start(); write(result(number)); be_silent()", hang_after=0.3)
    await greeted(worker)
    await worker.execute(COMMAND)
    await asyncio.sleep(1.2)  # several times as long as a busy one would be given
    assert worker.usable


# -- it does not read ------------------------------------------------------------------------------------------------


async def congest(worker: Worker, **options: Any) -> list["asyncio.Future[Any]"]:
    """Give commands to a worker that reads nothing, until more of them have to wait."""
    command = COMMAND.with_options(args=["x" * 1500], **options)
    running: list[asyncio.Future[Any]] = []
    while not worker._program.connection.congested:
        running.append(asyncio.ensure_future(outcome(worker.execute(command))))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    return running


async def test_commands_wait_here_while_the_worker_does_not_read(workers):
    worker = workers("hello(); be_silent()")
    await greeted(worker)
    running = await congest(worker)
    waiting = [asyncio.ensure_future(outcome(worker.execute(COMMAND))) for _ in range(500)]
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in (*running, *waiting))
    assert worker.in_flight == len(running)
    assert worker._program.connection._unsent_size < HIGH_WATER + 10_000
    worker._lose("enough")
    ends = await asyncio.gather(*running)
    kinds = [type(end) for end in ends]
    sent = kinds.count(WorkerLost)
    assert 0 < sent < len(kinds)
    assert kinds == [WorkerLost] * sent + [RequestNotSent] * (len(kinds) - sent)  # the pipe is where it changes
    assert {type(end) for end in await asyncio.gather(*waiting)} == {RequestNotSent}


async def test_a_command_that_waits_for_room_can_be_cancelled(workers):
    worker = workers("hello(); be_silent()")
    await greeted(worker)
    running = await congest(worker)
    waiting = asyncio.ensure_future(worker.execute(COMMAND))
    await asyncio.sleep(0)
    waiting.cancel()
    async with asyncio.timeout(PATIENCE):
        assert isinstance(await outcome(waiting), asyncio.CancelledError)
        unsent = running[-1]
        assert not unsent.done()
        unsent.cancel()  # it has not left this process: there is nobody to ask
        await asyncio.wait([unsent])
    worker._lose("enough")
    await asyncio.gather(*running, return_exceptions=True)


async def test_a_command_that_waited_for_room_runs_when_there_is_some(workers, ready):
    worker = workers(f"hello(); open({ready.path!r}).readline(); serve()")
    await greeted(worker)
    async with asyncio.timeout(PATIENCE):
        running = await congest(worker)
        waiting = [asyncio.ensure_future(worker.execute(COMMAND)) for _ in range(50)]
        await asyncio.sleep(0)
        ready.send()
        assert {end.stdout for end in await asyncio.gather(*running, *waiting)} == {b"fake"}


async def test_a_full_socket_for_descriptors_holds_back_and_loses_nothing(workers, ready):
    """More streams than the socket holds; the worker takes them only when the test says so."""
    script = f"""
        hello()
        open({ready.path!r}).readline()
        sock.setblocking(True)
        while True:
            number = start()
            message, ancillary, _, _ = sock.recvmsg(4, 100)
            fds = array.array("i")
            fds.frombytes(ancillary[0][2])
            content = os.read(fds[0], 100)
            for fd in fds:
                os.close(fd)
            write(result(number, stdout=message + content))
    """
    worker = workers(script)
    path = os.path.join(os.path.dirname(ready.path), "input")
    running = []
    async with asyncio.timeout(PATIENCE):
        while not worker._program.connection.congested:
            text = str(len(running)).encode()
            with open(path, "wb") as file:
                file.write(text)
            stdin = os.open(path, os.O_RDONLY)
            os.unlink(path)
            running.append(asyncio.ensure_future(worker.execute(COMMAND.with_stdin(stdin))))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if not worker._program.connection.congested:
                os.close(stdin)  # it has left
        waiting = asyncio.ensure_future(outcome(worker.execute(COMMAND.with_stdin(stdin))))
        await asyncio.sleep(0)
        waiting.cancel()
        ready.send()
        ends = await asyncio.gather(*running)
        os.close(stdin)
        await asyncio.wait([waiting])
    assert [end.stdout[4:] for end in ends] == [str(number).encode() for number in range(len(ends))]


async def test_large_stdin_of_a_worker_that_never_takes_it_is_let_go(workers):
    worker = workers("hello(); be_silent()")
    big = [COMMAND.with_stdin(bytes(1_000_000)) for _ in range(20)]
    running = [asyncio.ensure_future(outcome(worker.execute(command))) for command in big]
    await asyncio.sleep(0.05)
    worker._lose("enough")
    assert {type(end) for end in await asyncio.gather(*running)} <= {WorkerLost, RequestNotSent}


# -- what it leaves --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [True, False])
async def test_what_a_dead_worker_had_started_is_dead_before_its_command_is_settled(workers, ready, told):
    """By the cookie; or, where the environment does not hold it, by the pid that it has told."""
    environment = "{}" if told else "{'AIOCMDPOOL_RUN': f'{cookie}:{number}'}"
    script = f"""
        hello()
        number = start()
        pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {environment}, setsid={told})
        {"write(started(number, pid))" if told else ""}
        say({ready.path!r}, pid)
        start()
    """
    worker = workers(script)
    running = asyncio.ensure_future(outcome(worker.execute(COMMAND)))
    pid = int(await ready.wait())
    await asyncio.sleep(0.02)  # for the frame that tells the pid, which went before
    os.kill(worker.pid, signal.SIGKILL)
    assert_lost(await running)
    await assert_dead(pid)


# -- closing ---------------------------------------------------------------------------------------------------------


async def test_a_worker_that_does_not_leave_when_asked_to_is_killed(workers, monkeypatch):
    monkeypatch.setattr(worker_module, "CLOSE_TIMEOUT", 0.1)
    worker = workers("hello(); answer_pings()")
    await greeted(worker)
    async with asyncio.timeout(PATIENCE):
        assert await worker.aclose() is None
    assert is_gone(worker.pid)


async def test_a_worker_is_closed_many_times_at_once_and_by_cancelled_callers(workers):
    worker = workers("hello(); number = start(); take(); write(result(number))")
    running = asyncio.ensure_future(outcome(worker.execute(COMMAND)))
    await greeted(worker)
    closers = [asyncio.ensure_future(worker.aclose()) for _ in range(3)]
    await asyncio.sleep(0)
    closers[1].cancel()
    async with asyncio.timeout(PATIENCE):
        first, second, third = await asyncio.gather(*closers)
    assert first is third is None
    assert isinstance(second, asyncio.CancelledError)  # the caller raises it
    assert (await running).stdout == b"fake"
    assert worker.lost_because is not None
    with pytest.raises(RequestNotSent):
        await worker.execute(COMMAND)


async def test_a_refusal_is_an_error_of_the_command_alone(workers):
    script = """
        hello()
        write(encode(frames.FAILED, start(), messages.pack_failed(2, "program")))
        serve()
    """
    worker = workers(script)
    error = await outcome(worker.execute(COMMAND))
    assert isinstance(error, IoError)
    assert error.errno == 2
    assert (await worker.execute(COMMAND)).stdout == b"fake"


async def test_a_cancelled_command_is_asked_to_end_and_waited_for(workers, ready):
    script = f"""
        hello()
        number = start()
        say({ready.path!r}, number)
        kind, cancelled, reason = take()
        assert (kind, cancelled) == (frames.CANCEL, number)
        open({ready.path!r}).readline()
        write(result(number, reason=reason[0], returncode=-15))
        serve()
    """
    worker = workers(script)
    running = asyncio.ensure_future(worker.execute(COMMAND))
    await ready.wait()
    running.cancel()
    await asyncio.sleep(0.02)
    running.cancel()  # again: it still waits
    done, _ = await asyncio.wait([running], timeout=0.05)
    assert not done
    ready.send()
    with pytest.raises(asyncio.CancelledError) as caught:
        await running
    cause = caught.value.__cause__
    assert isinstance(cause, ExecuteError)
    assert cause.result.returncode == -15
    assert (await worker.execute(COMMAND)).stdout == b"fake"


async def test_a_cancelled_command_whose_worker_dies_is_still_cancelled(workers):
    worker = workers("hello(); number = start(); write(started(number)); take(); os._exit(1)")
    running = asyncio.ensure_future(worker.execute(COMMAND))
    await greeted(worker)
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await running
    assert_lost(caught.value.__cause__)


def test_every_kind_of_frame_is_one_of_the_two_sides():
    """What is added there has to be added to the nonsense above, or to what a worker may say."""
    assert max(frames.KINDS) == frames.SIGNAL == 10
