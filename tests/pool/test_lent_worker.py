"""The worker of `run`, `execute` and `stream`: one for the process, lent to the loop that asks, nobody's to close."""

import asyncio
import errno
import gc
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
import uvloop
from contract.support import DYING, HOST_DEADLINE, adopting, helper, host_environment, is_dead, is_gone, sh

import aiocmdpool
from aiocmdpool import ExecutionMode, execute, execute_pipeline, run, stream, sync
from aiocmdpool.backends import single_commands
from aiocmdpool.backends.workers import lending
from aiocmdpool.backends.workers import process as program_module
from aiocmdpool.backends.workers.crew import Crew
from aiocmdpool.backends.workers.process import FOLDER
from aiocmdpool.backends.workers.worker import Worker
from aiocmdpool.commands.errors import IoError, TaskCancelled, WorkerLost

pytestmark = pytest.mark.slow

PARENT = sh("echo $PPID")  # of a plain command: its worker

runners = pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


async def worker_pid() -> int:
    return int((await execute(PARENT)).text())


def children() -> set[int]:
    """The processes that this one has started, and those that its workers have."""
    return {child.pid for child in psutil.Process().children(recursive=True)}


def wait_until_dead(pids: "set[int]") -> None:
    deadline = time.monotonic() + DYING
    while living := {pid for pid in pids if not is_dead(pid)}:
        assert time.monotonic() < deadline, f"still alive: {living}"
        time.sleep(0.005)


@pytest.fixture
def idle(monkeypatch):
    """Workers leave as soon as nothing is asked of them."""
    monkeypatch.setattr(lending.LentPool, "_idle_for", 0.1)


@pytest.fixture
def no_workers(monkeypatch):
    """No worker can be started in this process; nobody has noticed so far."""
    monkeypatch.setattr(single_commands._Workers, "missing_until", 0.0)
    monkeypatch.setattr(single_commands._Workers, "was_told", False)
    monkeypatch.setattr(sys, "executable", "/bin/false")


@runners
def test_one_worker_serves_one_loop_after_the_other(runner):
    first = runner(worker_pid())
    assert first != os.getpid()
    assert {runner(worker_pid()) for _ in range(10)} == {first}


def test_it_goes_from_one_kind_of_loop_to_another():
    workers = [runner(worker_pid()) for runner in (asyncio.run, uvloop.run) * 3]
    assert len(set(workers)) == 1


@runners
def test_a_loop_that_runs_beside_another_has_a_worker_of_its_own(runner):
    async def two() -> "tuple[int, int, int]":
        mine = await worker_pid()
        other = await asyncio.to_thread(runner, worker_pid())
        return mine, other, await worker_pid()

    mine, other, mine_still = runner(two())
    assert mine == mine_still != other
    assert runner(worker_pid()) in (mine, other)  # and then one of them is enough


def test_it_is_taken_from_a_loop_that_stands_still_in_this_thread():
    async def pid_and_loops_ready() -> int:
        return await worker_pid()

    loops = [asyncio.new_event_loop() for _ in range(2)]
    try:
        pids = {loop.run_until_complete(pid_and_loops_ready()) for loop in loops * 3}
    finally:
        for loop in loops:
            loop.close()
    assert len(pids) == 1


def test_it_is_taken_from_a_loop_that_a_thread_has_left_behind():
    loops = []

    def serve(pids: "list[int]") -> None:
        loops.append(asyncio.new_event_loop())
        pids.append(loops[-1].run_until_complete(worker_pid()))

    pids: list[int] = []
    try:
        for _ in range(5):
            thread = threading.Thread(target=serve, args=(pids,))
            thread.start()
            thread.join()
        pids.append(asyncio.run(worker_pid()))
    finally:
        for loop in loops:
            loop.close()
    assert len(set(pids)) == 1


@pytest.fixture
def standing(request):
    """A loop that is run now and then."""
    loop = request.param()
    yield loop
    loop.close()


loops = pytest.mark.parametrize(
    "standing", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"], indirect=True
)


def in_thread(function, *args) -> None:
    thread = threading.Thread(target=function, args=args)
    thread.start()
    thread.join()


@loops
@pytest.mark.parametrize("began_in", ["this_thread", "a_thread_that_is_gone"])
def test_a_command_of_a_loop_that_stands_still_goes_on(standing, began_in, ready):
    reading, writing = os.pipe()
    tasks: list[asyncio.Task] = []
    workers: set[int] = set()

    async def begin() -> None:
        command = sh(f"echo $PPID > {ready.path}; cat", stdin=reading)
        tasks.append(asyncio.create_task(execute(command)))
        workers.add(int(await ready.wait()))
        os.close(reading)

    def serve() -> None:
        standing.run_until_complete(begin())

    serve() if began_in == "this_thread" else in_thread(serve)
    workers |= {asyncio.run(worker_pid()) for _ in range(3)}
    assert len(workers) == 2  # one more, and not one each time
    os.write(writing, b"more\n")
    os.close(writing)
    result = standing.run_until_complete(asyncio.wait_for(tasks[0], DYING))
    assert result.stdout == b"more\n"
    assert asyncio.run(worker_pid()) in workers


@loops
def test_a_stream_of_a_loop_that_stands_still_goes_on(standing):
    reading, writing = os.pipe()
    lines = stream("sh", "-c", "echo first; cat", stdin=reading)
    assert standing.run_until_complete(anext(lines)) == b"first"
    os.close(reading)
    assert asyncio.run(run("echo", "other")).stdout == b"other\n"
    os.write(writing, b"second\n")
    os.close(writing)

    async def rest() -> "list[bytes]":
        return [line async for line in lines]

    assert standing.run_until_complete(asyncio.wait_for(rest(), DYING)) == [b"second"]


def no_worker_at_first(monkeypatch) -> "list[object]":
    lending.end_unused()
    refused: list[object] = []
    start = Crew._start_worker

    def refuse_once(crew):
        if not refused:
            refused.append(crew)
            raise WorkerLost("there is none just now")
        start(crew)

    monkeypatch.setattr(Crew, "_start_worker", refuse_once)
    return refused


def no_descriptors_at_first(monkeypatch) -> "list[object]":
    refused: list[object] = []
    submit = Worker._submit

    def refuse_once(worker, command, control):
        if not refused:
            refused.append(worker)
            raise IoError("no descriptors just now", errno=errno.EMFILE, command=command)
        return submit(worker, command, control)

    monkeypatch.setattr(Worker, "_submit", refuse_once)
    return refused


@loops
@pytest.mark.parametrize("hindrance", [no_worker_at_first, no_descriptors_at_first])
def test_a_command_that_waits_to_be_sent_while_its_loop_stands_still_goes_on(standing, hindrance, monkeypatch):
    asyncio.run(worker_pid())
    refused = hindrance(monkeypatch)
    tasks: list[asyncio.Task] = []

    async def begin() -> None:
        tasks.append(asyncio.create_task(run("echo", "late")))
        while not refused:
            await asyncio.sleep(0)

    standing.run_until_complete(begin())
    assert asyncio.run(run("echo", "other")).stdout == b"other\n"
    assert standing.run_until_complete(asyncio.wait_for(tasks[0], DYING)).stdout == b"late\n"


@loops
def test_one_that_has_left_a_loop_that_stands_still_is_not_heaped_up(standing, idle):
    """The pool of a loop that never runs again is taken by the next one, dead worker and all."""
    rounds = []
    for _ in range(3):
        loop = type(standing)()
        rounds.append(loop)
        first = loop.run_until_complete(worker_pid())
        wait_until_dead(children())
        assert len(lending._lent) == 1
    assert standing.run_until_complete(worker_pid()) != first
    assert len(lending._lent) == 1
    for loop in rounds:
        assert loop.run_until_complete(asyncio.sleep(0, "it stands as it did")) == "it stands as it did"
        loop.close()


def test_a_loop_that_is_thrown_away_while_it_is_owed_something_takes_its_worker_along(ready, recwarn):
    """Nothing but the loop knows it any more: no number of such loops leaves more than one worker."""
    abandoned = asyncio.new_event_loop()

    async def begin() -> None:
        task = asyncio.ensure_future(execute(helper("sleep_after_ready", ready.path)))
        task._log_destroy_pending = False  # leaving it is what this is about
        pids.append(int(await ready.wait()))

    pids: list[int] = []
    abandoned.run_until_complete(begin())
    other = asyncio.run(worker_pid())
    assert not is_gone(pids[0])
    del abandoned
    gc.collect()
    wait_until_dead(set(pids))
    assert asyncio.run(worker_pid()) == other
    assert len(lending._lent) == 1
    assert {warning.category for warning in recwarn} == {ResourceWarning}  # of asyncio: the loop was not closed


@runners
def test_what_a_loop_that_stood_still_was_owed_is_ended_when_it_gives_its_worker_up(runner, ready):
    standing = asyncio.new_event_loop() if runner is asyncio.run else uvloop.new_event_loop()
    single = single_commands.SingleCommands()
    pids: list[int] = []

    async def begin() -> "asyncio.Task[object]":
        task = asyncio.ensure_future(single.execute(helper("sleep_after_ready", ready.path)))
        pids.append(int(await ready.wait()))
        return task

    task = standing.run_until_complete(begin())
    asyncio.run(worker_pid())
    standing.run_until_complete(single.aclose())
    with pytest.raises(TaskCancelled):
        standing.run_until_complete(task)
    standing.close()
    wait_until_dead(set(pids))


@runners
def test_a_loop_that_is_closed_while_another_thread_takes_its_worker(runner, monkeypatch, ready):
    """The one that closes it comes to look whether all is at rest when the other one has already begun a command."""
    looks, has_taken = threading.Event(), threading.Event()
    reading, writing = os.pipe()
    results = []
    look = lending.LentPool._loop_closed

    def look_late(pool, *args):
        monkeypatch.undo()
        looks.set()
        assert has_taken.wait(DYING)
        look(pool, *args)

    async def take() -> bytes:
        task = asyncio.create_task(execute(sh(f"echo > {ready.path}; cat", stdin=reading)))
        await ready.wait()
        os.close(reading)
        has_taken.set()
        await asyncio.to_thread(first_is_over.wait, DYING)
        os.write(writing, b"taken\n")
        os.close(writing)
        return (await asyncio.wait_for(task, DYING)).stdout

    def second() -> None:
        assert looks.wait(DYING)
        results.append(runner(take()))

    monkeypatch.setattr(lending.LentPool, "_loop_closed", look_late)
    first_is_over = threading.Event()
    thread = threading.Thread(target=second)
    thread.start()
    first = runner(worker_pid())
    first_is_over.set()
    thread.join()
    assert results == [b"taken\n"]
    assert runner(worker_pid()) == first


def test_streams_and_pipelines_have_it_too():
    async def all_kinds() -> "list[int]":
        lines = [int(line) async for line in stream("sh", "-c", "echo $PPID")]
        piped = await execute_pipeline(PARENT | aiocmdpool.CommandConfig("cat"))
        return [*lines, int(piped.text()), int((await run("sh", "-c", "echo $PPID")).text()), await worker_pid()]

    assert len(set(asyncio.run(all_kinds()))) == 1


@runners
def test_it_leaves_when_nothing_is_asked_of_it_though_there_is_no_loop(runner, idle):
    first = runner(worker_pid())
    wait_until_dead(children())  # the guardian with it
    second = runner(worker_pid())
    assert second != first
    assert is_gone(first)


@runners
def test_it_leaves_when_nothing_is_asked_of_it_on_a_loop_that_goes_on(runner, idle, caplog):
    async def twice() -> "tuple[int, int]":
        first = await worker_pid()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DYING
        while not is_gone(first):
            assert loop.time() < deadline
            await asyncio.sleep(0.01)
        return first, await worker_pid()

    first, second = runner(twice())
    assert first != second
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_it_does_not_leave_while_it_runs_a_command(idle):
    assert asyncio.run(run("sleep", "0.5")).ok


@runners
def test_a_command_that_a_closed_loop_has_left_running_is_ended(runner, ready):
    pids = []

    async def leave() -> None:
        task = asyncio.ensure_future(execute(helper("sleep_after_ready", ready.path)))
        task.add_done_callback(lambda _: None)
        pids.append(int(await ready.wait()))

    loop = asyncio.new_event_loop() if runner is asyncio.run else uvloop.new_event_loop()
    loop.run_until_complete(leave())
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # leaving it is what this is about
    loop.close()
    wait_until_dead(set(pids))
    assert runner(worker_pid())


@runners
def test_a_forked_child_has_its_own_and_leaves_that_of_its_parent_alone(runner):
    before = runner(worker_pid())
    inherited = set(os.listdir("/proc/self/fd"))
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            held = set(os.listdir("/proc/self/fd")) - {str(reading), str(writing)}
            os.write(writing, b"%d %d\n" % (runner(worker_pid()), len(inherited - held)))
            lending.end_unused()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        child, closed = map(int, pipe.read().split())
    os.waitpid(pid, 0)
    assert child != before
    assert closed > 5  # pipes, the socket, the guardian's: the child holds none of them
    assert runner(worker_pid()) == before


def test_nothing_resident_is_started_for_who_asks_for_that():
    async def parents() -> "set[int]":
        options = {"mode": ExecutionMode.PROCESS}
        lines = [int(line) async for line in stream("sh", "-c", "echo $PPID", **options)]
        result = await run("sh", "-c", "echo $PPID", **options)
        return {*lines, int(result.text()), int((await execute(PARENT, mode=ExecutionMode.PROCESS)).text())}

    assert asyncio.run(parents()) == {os.getpid()}
    assert children() == set()
    assert asyncio.run(execute(PARENT, mode=ExecutionMode.THREAD)).text() == f"{os.getpid()}\n"


def test_the_facade_offers_the_same_choice():
    try:
        mine = int(sync.run("sh", "-c", "echo $PPID", mode=ExecutionMode.PROCESS).text())
        worker = int(sync.execute(PARENT).text())
    finally:
        sync.shutdown()
    assert mine == os.getpid() != worker
    assert is_gone(worker)


@runners
def test_where_no_worker_can_be_started_commands_are_children_after_one_warning(runner, no_workers, caplog):
    assert [runner(worker_pid()) for _ in range(3)] == [os.getpid()] * 3
    told = [record for record in caplog.records if record.name == "aiocmdpool.single_commands"]
    assert [record.levelname for record in told] == ["WARNING"]


def test_the_output_of_many_at_once_is_their_own():
    async def many() -> "list[str]":
        return [result.text() for result in await asyncio.gather(*(run("echo", str(n)) for n in range(50)))]

    assert asyncio.run(many()) == [f"{n}\n" for n in range(50)]


def test_threads_with_a_loop_for_each_call(leak_guard):
    """As under a WSGI server, where each request has its thread, and each call its loop."""
    seen: list[str] = []

    def serve(number: int) -> None:
        seen.extend(asyncio.run(run("echo", str(number))).text() for _ in range(5))

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == sorted(f"{number}\n" for number in range(8) for _ in range(5))


HOSTS = {
    "run": "import asyncio, aiocmdpool; asyncio.run(aiocmdpool.run(*{argv}))",
    "sync": "from aiocmdpool import sync; sync.run(*{argv})",
    "stream": (
        "import asyncio, aiocmdpool\nasync def main():\n    async for line in aiocmdpool.stream(*{argv}): print(line)\n"
        "asyncio.run(main())"
    ),
}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("code", HOSTS.values(), ids=HOSTS)
def test_the_program_dies_with_a_host_that_is_killed(code, number, ready):
    command = helper("sleep_after_ready", ready.path)
    code = code.format(argv=[command.program, *command.args])
    with adopting(), subprocess.Popen([sys.executable, "-c", code], env=host_environment()) as host:
        pid = int(ready.wait_blocking())
        host.send_signal(number)
        host.wait(HOST_DEADLINE)
        wait_until_dead({pid})


@pytest.mark.parametrize("facade", [False, True])
def test_the_end_of_the_interpreter_leaves_nothing_and_says_nothing(facade):
    code = (
        "import asyncio, aiocmdpool, psutil\nfrom aiocmdpool import sync\n"
        + ("sync.run('true')\n" if facade else "asyncio.run(aiocmdpool.run('true'))\n")
        + "print(*(child.pid for child in psutil.Process().children(recursive=True)))"
    )
    argv = [sys.executable, "-W", "error", "-c", code]
    with adopting():
        host = subprocess.run(argv, env=host_environment(), capture_output=True, text=True, timeout=HOST_DEADLINE)
    assert (host.returncode, host.stderr) == (0, "")
    pids = set(map(int, host.stdout.split()))
    assert pids
    wait_until_dead(pids)


def test_what_is_sent_to_a_worker_that_just_leaves_is_run_by_another(monkeypatch, tmp_path):
    """It leaves for want of work at the very moment at which work arrives."""
    folder, has_left = tmp_path / "standalone", tmp_path / "has_left"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    server = folder / "worker" / "server.py"
    before, line, after = server.read_text().partition("        if kind == frames.START:\n")
    assert line
    leave = (
        f"        if kind == frames.START and not os.path.exists({str(has_left)!r}):\n"
        f"            open({str(has_left)!r}, 'x').close()\n"
        "            self.left_idle = self._closing = True\n"
        "        if self.left_idle:\n"  # from there on it reads nothing
        "            return\n"
    )
    server.write_text(f"{before}{leave}{line}{after}")
    monkeypatch.setattr(program_module, "FOLDER", str(folder))
    assert asyncio.run(run("echo", "once", mode=ExecutionMode.PROCESS_POOL)).stdout == b"once\n"
    assert has_left.exists()
