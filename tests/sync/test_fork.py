"""After `os.fork`: a fresh facade in the child, a clear error for what is the parent's, and the parent unharmed."""

import pytest
from contract.support import HOST_DEADLINE

MODES = ["PROCESS", "PROCESS_POOL"]
FOREIGN = "ExecuteError: this CommandPool belongs to the parent of this forked process; make a new one here"


@pytest.mark.parametrize("mode", MODES)
def test_the_child_has_a_facade_of_its_own(host, ready, release, mode):
    process = host("fork", "forks", mode, ready.path, release.path)
    ready.wait_blocking()
    lines = [process.stdout.readline().strip() for _ in range(6)]
    assert lines == ["born anew", FOREIGN, FOREIGN, "a fresh one", "made by the parent", "5"]
    release.send()
    assert process.communicate("go on\n", timeout=HOST_DEADLINE) == ("go unharmed\n", "")
    assert process.returncode == 0


def test_what_was_started_before_a_fork_is_born_anew_in_each_child(host):
    stopped = "PoolClosed this CommandPool is stopped; make a new one"
    foreign = "this pool belongs to the parent of this forked process; make a new one here"
    stdout, stderr = host("fork", "preloaded").communicate(timeout=HOST_DEADLINE)
    of_a_child = [
        stopped.replace(" ", ": ", 1),
        f"0 0 0 {'ExecuteError: ' + foreign}",
        *["CommandPool", "CommandPoolSeg", "ProcessPool"],
        "[True, True]",
    ]
    assert stderr == ""
    assert stdout.splitlines() == of_a_child * 2


def test_a_pool_of_the_module_works_in_multiprocessing(host):
    process = host("fork", "multiprocessed")
    assert process.communicate(timeout=HOST_DEADLINE) == ("['0', '1', '2', '3']\n", "")


@pytest.mark.parametrize("mode", MODES)
def test_a_child_that_leaves_the_with_of_its_parent_leaves_the_pool_alone(host, mode):
    process = host("fork", "forks_in_with", mode)
    assert process.communicate(timeout=HOST_DEADLINE) == ("5\nunharmed\n", "")


def test_a_fork_finds_the_background_thread_in_the_middle_of_nothing(host):
    process = host("fork", "forks_in_the_middle")
    assert process.communicate(timeout=HOST_DEADLINE) == ("0\n", "")


def test_forks_in_the_middle_of_calls_of_other_threads(host):
    process = host("fork", "forks_while_threads_use_it")
    assert process.communicate(timeout=HOST_DEADLINE) == (f"{[4] * 10}\n", "")
