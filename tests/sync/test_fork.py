"""After `os.fork`: a fresh facade in the child, a clear error for what is the parent's, and the parent unharmed."""

import pytest
from contract.support import HOST_DEADLINE

pytestmark = pytest.mark.slow

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


@pytest.mark.parametrize("ordered", ["ordered", "as completed"])
@pytest.mark.parametrize("end", ["exit", "close", "next"])
def test_a_child_leaves_a_map_of_its_parent(host, end, ordered):
    process = host("fork", "forks_in_map", end, ordered)
    told = (
        "ExecuteError: this call of aiocmdpool.sync belongs to the parent of this forked process; make a new one here\n"
    )
    first = told if end == "next" else ""
    assert process.communicate(timeout=HOST_DEADLINE) == (f"{first}5\n[True, True, True]\n", "")


@pytest.mark.parametrize("kind", ["CommandPool", "CommandPoolSeg", "of a loop"])
def test_a_child_does_not_await_what_is_its_parents(host, ready, release, kind):
    process = host("fork", "awaits_what_is_inherited", kind, ready.path, release.path)
    of = kind if kind == "CommandPool" else "pool"
    told = f"ExecuteError: this {of} belongs to the parent of this forked process; make a new one here\n"
    assert process.communicate(timeout=HOST_DEADLINE) == (told * 2 + "0\n", "")


@pytest.mark.parametrize("kind", ["CommandPool", "CommandPoolSeg"])
def test_a_child_that_is_forked_in_a_wait_leaves_it(host, ready, release, kind):
    """By a signal handler, as in a server that forks again when it is told to."""
    process = host("fork", "forks_in_a_wait", kind, ready.path, release.path)
    of = kind if kind == "CommandPool" else "pool"
    told = f"ExecuteError: this {of} belongs to the parent of this forked process; make a new one here"
    assert process.stdout.readline() == f"{told}\n"
    release.send()
    assert process.communicate(timeout=HOST_DEADLINE) == ("go\n5\n", "")
