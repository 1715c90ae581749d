"""The leak guard itself: an inner test run whose tests leak one thing each."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .support import HOST_DEADLINE, host_environment, is_dead

pytestmark = pytest.mark.slow

SETTINGS = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""

CONFTEST = """
from contract import guard
from contract.guard import leak_guard, loop_guard, task_guard

guard.mark_session()
guard.PATIENCE = {patience}
"""

LEAKING = """
import asyncio, os, subprocess, sys, threading, time

KEPT = []

async def test_task():
    KEPT.append(asyncio.create_task(asyncio.sleep(60), name="the-forgotten-task"))

async def test_error_that_nobody_saw():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)

def test_thread():
    threading.Thread(target=threading.Event().wait, name="the-forgotten-thread", daemon=True).start()

def test_descriptor():
    KEPT.append(os.open("/dev/zero", os.O_RDONLY))

def test_pipe():
    KEPT.append(os.pipe())

def test_child():
    process = subprocess.Popen(["sleep", "51.1"])
    KEPT.append(process)
    note(process.pid)

def test_zombie():
    process = subprocess.Popen(["true"])
    KEPT.append(process)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

def test_orphan():
    note(orphan("52.2"))

async def test_orphan_of_an_async_test():
    note(orphan("53.3"))

def orphan(seconds):  # it has been executed when its pid is printed: no shell is seen in its place
    popen = f"subprocess.Popen(['sleep', '{seconds}'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)"
    argv = [sys.executable, "-I", "-S", "-c", f"import subprocess; print({popen}.pid)"]
    return subprocess.run(argv, capture_output=True, check=True, start_new_session=True).stdout.decode()

def note(pid):
    with open("pids", "a") as file:
        print(pid, file=file)
"""

CLEAN = """
import asyncio, os, subprocess, threading, time

import pytest

def test_nothing():
    pass

async def test_await():
    await asyncio.sleep(0)

async def test_task_that_is_about_to_end():
    asyncio.create_task(asyncio.sleep(0.05))

def test_thread_that_is_about_to_end():
    threading.Thread(target=time.sleep, args=(0.05,)).start()

def test_process_that_was_waited_for():
    subprocess.run(["true"], check=True)

async def test_executor_of_the_loop():
    await asyncio.to_thread(time.sleep, 0)

def test_descriptor_that_was_closed():
    os.close(os.open("/dev/zero", os.O_RDONLY))

@pytest.fixture(scope="module")
def shared():
    descriptor = os.open("/dev/zero", os.O_RDONLY)
    yield
    os.close(descriptor)

def test_resource_of_the_whole_module(shared):
    pass
"""


def inner_run(directory: Path, tests: str, patience: float) -> str:
    (directory / "pytest.ini").write_text(SETTINGS)
    (directory / "conftest.py").write_text(CONFTEST.format(patience=patience))
    (directory / "test_inner.py").write_text(tests)
    argv = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "--tb=short"]
    options = {"cwd": directory, "capture_output": True, "text": True, "timeout": HOST_DEADLINE}
    return subprocess.run(argv, check=False, env=host_environment(), **options).stdout


@pytest.fixture(scope="module")
def leaking(tmp_path_factory) -> tuple[Path, str]:
    directory = tmp_path_factory.mktemp("leaking")
    return directory, inner_run(directory, LEAKING, 0.3)


@pytest.mark.parametrize(
    ("test", "shown"),
    [
        ("task", r"tasks: .*the-forgotten-task"),
        ("error_that_nobody_saw", r"errors that nobody saw: .*ZeroDivisionError"),
        ("thread", r"threads: the-forgotten-thread"),
        ("descriptor", r"descriptors: \d+ -> /dev/zero"),
        ("pipe", r"descriptors: \d+ -> pipe:\[\d+\]"),
        ("child", r"processes: \d+ .*alive sleep 51\.1"),
        ("zombie", r"processes: \d+ .*zombie"),
        ("orphan", r"processes: \d+ .*alive sleep 52\.2"),
        ("orphan_of_an_async_test", r"processes: \d+ .*alive sleep 53\.3"),
    ],
)
def test_a_leak_fails_its_test_and_is_shown(leaking, test, shown):
    _, report = leaking
    section = re.search(rf"ERROR at teardown of test_{test} _+\n(.*?)\n_", report + "\n_", re.DOTALL)
    assert section, report
    assert re.search(rf"the test left behind:\n  {shown}", section[1]), section[1]


def test_a_leak_is_the_error_of_its_own_test_only(leaking):
    _, report = leaking
    assert "9 passed, 9 errors" in report


def test_leaked_processes_are_killed(leaking):
    directory, _ = leaking
    pids = [int(line) for line in (directory / "pids").read_text().split()]
    assert len(pids) == 3
    assert all(map(is_dead, pids))


def test_what_is_finishing_or_belongs_to_a_wider_scope_is_no_leak(tmp_path):
    assert "8 passed in" in inner_run(tmp_path, CLEAN, 10.0)
