"""The worker of `run`, `execute` and `stream`: one for the process, lent to the loop that asks, nobody's to close."""

import asyncio
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
from aiocmdpool.backends.workers.process import FOLDER

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
